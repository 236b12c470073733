#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| auditlog::fuzzing::run("config", bytes));
