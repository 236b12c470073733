//! Compiles the protobuf contract without `protoc`: protox parses it, tonic-prost-build writes the Rust code, and the
//! encoded descriptor set (imports, comments and the HTTP annotations included) is kept for reflection and `auditlog
//! descriptor`.

use std::{env, error::Error, fs, path::PathBuf};

const PROTO_ROOT: &str = "proto";
const PROTO_FILES: [&str; 5] = [
    "auditlog/v1/event.proto",
    "auditlog/v1/audit_log_service.proto",
    "auditlog/v1/proof_service.proto",
    "auditlog/v1/leaf.proto",
    "auditlog/v1/error_reason.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_ROOT}");
    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler.include_imports(true).include_source_info(true).open_files(PROTO_FILES)?;

    // `encode_file_descriptor_set` keeps the google.api.http options; the decoded form below has dropped them.
    let out_dir = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out_dir.join("auditlog.descriptor.bin"), compiler.encode_file_descriptor_set())?;

    tonic_prost_build::configure()
        .btree_map(".")
        .bytes(".google.api.HttpBody.data")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
