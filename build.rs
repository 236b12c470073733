//! Compiles the protobuf contract without `protoc`: protox parses it, tonic-prost-build writes the Rust code, and the
//! encoded descriptor set (imports, comments and the HTTP annotations included) is kept for reflection and `auditlog
//! descriptor`.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
};

use tonic_prost_build::{Builder, FileDescriptorSet};

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

    let messages = || tonic_prost_build::configure().btree_map(".").bytes(".google.api.HttpBody.data");
    messages().build_server(false).compile_fds(compiler.file_descriptor_set())?;
    build_server(messages(), &out_dir.join("server"), compiler.file_descriptor_set())
}

/// The server takes and gives some messages in forms of its own; see `encoded` in `src/proto.rs`.
fn build_server(messages: Builder, out_dir: &Path, files: FileDescriptorSet) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(out_dir)?;
    let encoded = |message: &str| (format!(".auditlog.v1.{message}"), format!("crate::proto::encoded::{message}"));
    let messages =
        ["BatchRecordEventsRequest", "GetEventResponse", "ListEventsResponse"].map(encoded).into_iter().fold(
            messages
                .build_client(false)
                .extern_path(".auditlog.v1", "crate::proto::auditlog::v1")
                .extern_path(".google.api", "crate::proto::google::api"),
            |messages, (message, path)| messages.extern_path(message, path),
        );
    messages.out_dir(out_dir).compile_fds(files)?;
    Ok(())
}
