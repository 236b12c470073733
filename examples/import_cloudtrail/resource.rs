//! Which resource a CloudTrail record is about.

use serde_json::{Map, Value};

/// Parameters that name the resource when none is named after the event, the more telling ones first.
const NAMING: [&str; 26] = [
    "instanceProfileName",
    "bucketName",
    "functionName",
    "secretId",
    "trailName",
    "roleName",
    "userName",
    "policyName",
    "policyArn",
    "logGroupName",
    "dBInstanceIdentifier",
    "dBSnapshotIdentifier",
    "internetGatewayId",
    "routeTableId",
    "groupId",
    "groupName",
    "imageId",
    "snapshotId",
    "volumeId",
    "instanceId",
    "allocationId",
    "associationId",
    "networkInterfaceId",
    "resourceId",
    "documentName",
    "name",
];

/// What a parameter that identifies a thing adds to the thing's name.
const IDENTIFYING: [&str; 4] = ["id", "identifier", "name", "arn"];

/// The resource's id, if the parameters have it: `vpcId` of `DeleteVpc`, wherever it stands, or else something known to
/// identify.
pub(crate) fn id<'p>(event_name: &str, parameters: &'p Map<String, Value>) -> Option<&'p str> {
    let noun = words(event_name).1.to_lowercase();
    let of_noun = |noun: &str| {
        IDENTIFYING
            .iter()
            .find_map(|suffix| parameters.iter().find_map(|(key, value)| named(key, value, &format!("{noun}{suffix}"))))
    };
    let known = || NAMING.iter().find_map(|key| parameters.get(*key).and_then(text));
    of_noun(&noun).or_else(|| of_noun(noun.strip_suffix('s')?)).or_else(known)
}

/// The value of the tag `Name`, which is how AWS's own resources are named; empty without one.
pub(crate) fn name(parameters: &Map<String, Value>) -> &str {
    parameters.values().find_map(name_tag).unwrap_or_default()
}

/// The verb and the noun of `UpdateFunctionCode20150331v2`: `Update` and `FunctionCode`.
pub(crate) fn words(event_name: &str) -> (&str, &str) {
    let is_upper = |(_, c): &(usize, char)| c.is_ascii_uppercase();
    let (verb, noun) =
        event_name.split_at(event_name.char_indices().skip(1).find(is_upper).map_or(event_name.len(), |(at, _)| at));
    let version = noun.find(|c: char| c.is_ascii_digit()).unwrap_or(noun.len());
    (verb, &noun[..version])
}

/// The text at `wanted`, in lower case, at any depth of `key`: `value`.
fn named<'p>(key: &str, value: &'p Value, wanted: &str) -> Option<&'p str> {
    match value {
        Value::String(_) => text(value).filter(|_| key.to_lowercase() == wanted),
        Value::Object(fields) => fields.iter().find_map(|(key, value)| named(key, value, wanted)),
        Value::Array(items) => items.iter().find_map(|item| named(key, item, wanted)),
        _ => None,
    }
}

fn name_tag(value: &Value) -> Option<&str> {
    match value {
        Value::Object(tag) if tag.get("key").and_then(Value::as_str) == Some("Name") => tag.get("value").and_then(text),
        Value::Object(fields) => fields.values().find_map(name_tag),
        Value::Array(items) => items.iter().find_map(name_tag),
        _ => None,
    }
}

fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(json: &str) -> Map<String, Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_id_is_the_one_named_after_the_event() {
        for (event_name, json, expected) in [
            ("DeleteVpc", r#"{"vpcId":"vpc-1"}"#, Some("vpc-1")),
            ("CreateRouteTable", r#"{"vpcId":"vpc-1"}"#, None),
            ("AttachInternetGateway", r#"{"vpcId":"vpc-1","internetGatewayId":"igw-1"}"#, Some("igw-1")),
            ("TerminateInstances", r#"{"instancesSet":{"items":[{"instanceId":"i-1"}]}}"#, Some("i-1")),
            ("DeleteNatGateway", r#"{"DeleteNatGatewayRequest":{"NatGatewayId":"nat-1"}}"#, Some("nat-1")),
            ("PutRolePolicy", r#"{"policyName":"p","roleName":"r"}"#, Some("r")),
            ("CreateFunction20150331", r#"{"role":"r","functionName":"f"}"#, Some("f")),
            ("DeleteParameter", r#"{"name":"/a/b"}"#, Some("/a/b")),
            ("CreateDBInstance", r#"{"dBName":"d","dBInstanceIdentifier":"db-1"}"#, Some("db-1")),
            ("RunInstances", r#"{"iamInstanceProfile":{"name":"x"}}"#, None),
            ("CheckMfa", "{}", None),
            ("", r#"{"id":""}"#, None),
        ] {
            assert_eq!(id(event_name, &parameters(json)), expected, "{event_name}");
        }
    }

    #[test]
    fn the_name_is_the_name_tag() {
        let tags = r#"{"t":{"items":[{"tags":[{"key":"a","value":"b"},{"key":"Name","value":"my vpc"}]}]}}"#;
        assert_eq!(name(&parameters(tags)), "my vpc");
        assert_eq!(name(&parameters(r#"{"name":"x"}"#)), "");
    }
}
