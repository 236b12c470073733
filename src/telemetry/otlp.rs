//! Traces, sent to a collector over OTLP (gRPC) if the standard variables of OpenTelemetry ask for it.
//!
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_TRACES_EXPORTER=otlp` turns it on; `OTEL_SDK_DISABLED=true` and
//! `OTEL_TRACES_EXPORTER=none` turn it off again. `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_TRACES_SAMPLER`,
//! `OTEL_BSP_…` and the rest of `OTEL_EXPORTER_OTLP_…` are read by the SDK.

use std::env;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{Resource, error::OTelSdkResult, trace::SdkTracerProvider};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

/// The service's name where `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` give none.
const SERVICE_NAME: &str = "auditlog";
/// Where the traces go; the first that is set counts, and asks for the export.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// What may say how the traces are sent; the first that is set counts.
const PROTOCOLS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];

/// Why traces cannot be exported as asked.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// There is no TLS towards collectors.
    #[error("{0} begins with https, and traces are sent without TLS: name a collector beside the service by http://")]
    Https(&'static str),
    /// It cannot be told how to get there.
    #[error("{0} is {1}: it must begin with http://, as http://collector:4317 does")]
    Scheme(&'static str, String),
    /// There is but one protocol.
    #[error("{0} is {1}, and traces are sent by grpc only: unset it")]
    Protocol(&'static str, String),
    /// The exporter does not take them.
    #[error(transparent)]
    Build(#[from] ExporterBuildError),
}

/// Sends spans in batches, from a thread of its own.
#[derive(Debug)]
pub struct Exporter(SdkTracerProvider);

impl Exporter {
    /// `None` unless the variables ask for one. Must be called in a runtime, which carries its connection.
    pub fn from_environment() -> Result<Option<Self>, OtlpError> {
        let variable = |name: &str| env::var(name).ok();
        if !is_wanted(variable) {
            return Ok(None);
        }
        require_possible(variable)?;
        Self::new().map(Some)
    }

    fn new() -> Result<Self, OtlpError> {
        let exporter = SpanExporter::builder().with_tonic().build()?;
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource());
        Ok(Self(provider.build()))
    }

    /// Takes our own spans, and not those of the libraries below, the exporter's own connection among them.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        let ours = filter_fn(|metadata: &Metadata<'_>| metadata.target().starts_with(env!("CARGO_CRATE_NAME")));
        tracing_opentelemetry::layer().with_tracer(self.0.tracer(SERVICE_NAME)).with_filter(ours)
    }

    /// Sends what is left.
    pub fn shut_down(self) {
        let result: OTelSdkResult = self.0.shutdown();
        if let Err(error) = result {
            tracing::warn!(%error, "the last traces could not be exported");
        }
    }
}

fn resource() -> Resource {
    let resource = Resource::builder();
    let is_named = is_named(|name| env::var(name).ok());
    let resource = if is_named { resource } else { resource.with_service_name(SERVICE_NAME) };
    resource.with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"))).build()
}

/// The first of these that is set, with its value. An empty variable counts as unset, as the specification has it.
fn first_set(names: &[&'static str], variable: impl Fn(&str) -> Option<String>) -> Option<(&'static str, String)> {
    let set = |name: &&'static str| Some((*name, variable(name)?.trim().to_owned()));
    names.iter().filter_map(set).find(|(_, value)| !value.is_empty())
}

/// Whether the variables give the service a name. Other attributes of the resource are none.
fn is_named(variable: impl Fn(&str) -> Option<String>) -> bool {
    let attributes = first_set(&["OTEL_RESOURCE_ATTRIBUTES"], &variable).map_or_else(String::new, |(_, pairs)| pairs);
    let mut keys = attributes.split(',').filter_map(|pair| Some(pair.split_once('=')?.0.trim()));
    keys.any(|key| key == "service.name") || first_set(&["OTEL_SERVICE_NAME"], variable).is_some()
}

fn is_wanted(variable: impl Fn(&str) -> Option<String>) -> bool {
    let is = |name: &str, value: &str| variable(name).is_some_and(|is| is.trim().eq_ignore_ascii_case(value));
    let is_asked = is("OTEL_TRACES_EXPORTER", "otlp") || first_set(&ENDPOINTS, &variable).is_some();
    is_asked && !is("OTEL_SDK_DISABLED", "true") && !is("OTEL_TRACES_EXPORTER", "none")
}

/// What the exporter would refuse in words for programmers, or pass over.
fn require_possible(variable: impl Fn(&str) -> Option<String>) -> Result<(), OtlpError> {
    if let Some((name, endpoint)) = first_set(&ENDPOINTS, &variable) {
        match endpoint.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
            Some("http") => (),
            Some("https") => return Err(OtlpError::Https(name)),
            _ => return Err(OtlpError::Scheme(name, endpoint)),
        }
    }
    match first_set(&PROTOCOLS, variable) {
        Some((name, protocol)) if protocol != "grpc" => Err(OtlpError::Protocol(name, protocol)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        let check = |name: &'static str, value: &'static str| {
            require_possible(|asked| (asked == name).then(|| value.to_owned())).map_err(|error| error.to_string())
        };
        let https = check("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector:4317").unwrap_err();
        assert!(https.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT begins with https"), "{https}");
        let none = check("OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4317").unwrap_err();
        assert!(
            none.starts_with("OTEL_EXPORTER_OTLP_ENDPOINT is localhost:4317: it must begin with http://"),
            "{none}"
        );
        let http = check("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf").unwrap_err();
        assert!(http.starts_with("OTEL_EXPORTER_OTLP_PROTOCOL is http/protobuf"), "{http}");
        assert_eq!(check("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"), Ok(()));
        assert_eq!(check("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"), Ok(()));
        // Metrics may go elsewhere than traces.
        let both = |name: &str| {
            let is_of_traces = name == "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
            let is_of_all = name == "OTEL_EXPORTER_OTLP_ENDPOINT";
            is_of_traces.then_some("http://a:4317").or(is_of_all.then_some("https://b:4317")).map(str::to_owned)
        };
        assert!(require_possible(both).is_ok());
    }

    #[test]
    fn only_a_name_is_a_name() {
        for (name, value, expected) in [
            ("OTEL_SERVICE_NAME", "x", true),
            ("OTEL_SERVICE_NAME", " ", false),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=prod, service.name=x", true),
            ("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=prod,service.namespace=service.name", false),
        ] {
            assert_eq!(is_named(|asked| (asked == name).then(|| value.to_owned())), expected, "{name}={value}");
        }
    }

    #[test]
    fn is_wanted_only_when_it_is_asked_for() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317");
        for (variables, expected) in [
            (vec![], false),
            (vec![endpoint], true),
            (vec![("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4317")], true),
            (vec![("OTEL_EXPORTER_OTLP_ENDPOINT", "")], false),
            (vec![("OTEL_SERVICE_NAME", "x")], false),
            (vec![endpoint, ("OTEL_SDK_DISABLED", "TRUE")], false),
            (vec![endpoint, ("OTEL_SDK_DISABLED", "false")], true),
            (vec![endpoint, ("OTEL_TRACES_EXPORTER", "none")], false),
            (vec![endpoint, ("OTEL_TRACES_EXPORTER", "otlp")], true),
            // To the collector beside the service.
            (vec![("OTEL_TRACES_EXPORTER", "otlp")], true),
            (vec![("OTEL_TRACES_EXPORTER", "otlp"), ("OTEL_SDK_DISABLED", "true")], false),
        ] {
            let value = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, v)| (*v).to_owned());
            assert_eq!(is_wanted(value), expected, "{variables:?}");
        }
    }
}
