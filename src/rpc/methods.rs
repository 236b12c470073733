//! Which methods and reasons of errors there are, as the contract tells.

use prost::Message as _;
use prost_types::FileDescriptorSet;

use crate::proto::{self, auditlog::v1::ErrorReason};

/// The path of each method that is served: ours, and those of the health and the reflection service.
pub fn paths() -> Vec<String> {
    let sets = [
        proto::DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    sets.into_iter().flat_map(paths_in).collect()
}

/// What the details of an error may give as its reason.
pub fn error_reasons() -> impl Iterator<Item = &'static str> {
    ErrorReason::all().map(ErrorReason::reason)
}

fn paths_in(set: &[u8]) -> Vec<String> {
    let set = FileDescriptorSet::decode(set).expect("the descriptor sets are compiled in, and tests read them");
    let mut paths = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let method = |method: &prost_types::MethodDescriptorProto| {
                format!("/{}.{}/{}", file.package(), service.name(), method.name())
            };
            paths.extend(service.method.iter().map(method));
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_ours_and_the_plumbing() {
        let paths = paths();
        for path in [
            "/auditlog.v1.AuditLogService/RecordEvent",
            "/auditlog.v1.AuditLogService/ExportCsv",
            "/grpc.health.v1.Health/Check",
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        ] {
            assert!(paths.iter().any(|known| known == path), "{path} is not in {paths:?}");
        }
        assert!(paths.iter().any(|known| known == super::super::BATCHES));
        assert!(paths.len() < 50, "each makes a dozen series");
    }
}
