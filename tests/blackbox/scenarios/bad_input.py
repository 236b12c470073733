"""Bad input: every rule of every field, by its path, and all that is wrong at once."""

from world import event, item, same, scenario

# Each text of an event: where it is, and how many bytes it may have.
TEXTS = {
    "message": 4096,
    "resource.type": 128,
    "resource.id": 256,
    "resource.name": 512,
    "actor.id": 256,
    "actor.name": 512,
    "changes[0].field": 512,
    "changes[0].old_value": 8192,
    "changes[0].new_value": 8192,
    "context.source_ip": 256,
    "context.user_agent": 512,
    "context.request_id": 256,
    "context.trace_id": 256,
    "attributes[a]": 1024,
}
REQUIRED = ("resource.type", "resource.id", "actor.id", "changes[0].field", "attributes[a]")


def with_text(path, text):
    """An event that has the text at a path."""
    made = event()
    head, _, leaf = path.partition(".")
    if head == "message":
        made["message"] = text
    elif head == "attributes[a]":
        made["attributes"] = {"a": text}
    elif head == "changes[0]":
        made["changes"] = [{"field": "f", leaf: text}]
    else:
        made.setdefault(head, {})[leaf] = text
    return made


@scenario
def required_fields_are_named(world):
    world.call("RecordEvent", {"parent": world.tenant}).breaks("event")
    world.record(world.tenant, {}).refused("INVALID_ARGUMENT", "FIELD_INVALID")
    for path in REQUIRED:
        world.record(world.tenant, with_text(path, "")).breaks(f"event.{path}")
    for part in ("action_type", "resource", "actor"):
        without = {key: value for key, value in event().items() if key != part}
        world.record(world.tenant, without).breaks(f"event.{part}")
    for number in (0, 4, -1):
        world.record(world.tenant, {**event(), "action_type": number}).breaks("event.action_type")
        typed = {**event(), "actor": {"type": number, "id": "ann"}}
        world.record(world.tenant, typed).breaks("event.actor.type")
    world.record(world.tenant, {**event(), "attributes": {"": "v"}}).refused("INVALID_ARGUMENT", "FIELD_INVALID")
    world.record(world.tenant, {**event(), "actor": {"type": "ACTOR_TYPE_SYSTEM"}}, world.id(1)).ok()
    same(len(world.walk(world.tenant)), 1)


@scenario
def control_characters_are_refused_in_every_text(world):
    for path in TEXTS:
        for control in ("\0", "a\0b", "\x01", "\x1b[31m", "\x7f", "\x85", "\x9f"):
            bad = with_text(path, control)
            world.record(world.tenant, bad).breaks(f"event.{path}")
        world.batch([item(event()), item(bad)], world.tenant).breaks(f"requests[1].event.{path}")
    for key in ("\0", "a\x1b"):
        bad = event(attributes={key: "v"})
        world.record(world.tenant, bad).refused("INVALID_ARGUMENT", "FIELD_INVALID")
    for field in ("resource_types", "resource_ids", "actor_ids", "project_ids"):
        world.list(world.tenant, filter={field: ["a", "\0"]}).breaks(f"filter.{field}[1]")
    same(world.walk(world.tenant), [])


@scenario
def limits_count_bytes_and_hold_to_the_byte(world):
    for number, (path, limit) in enumerate(TEXTS.items()):
        whole, over = with_text(path, "🦀" * (limit // 4)), with_text(path, "🦀" * (limit // 4) + "a")
        name = world.record(world.tenant, whole, world.id(number)).ok().receipt.name
        world.record(world.tenant, over).breaks(f"event.{path}")
        got = world.client.to_json(world.get(name).ok().event)
        same({key: got[key] for key in whole}, whole)
    world.record(world.tenant, event(attributes={"🦀" * 32: "v"}), world.id(80)).ok()
    world.record(world.tenant, event(attributes={"🦀" * 32 + "a": "v"})).refused("INVALID_ARGUMENT", "FIELD_INVALID")
    for changes, attributes, fields in ((100, 64, []), (101, 64, ["event.changes"]), (100, 65, ["event.attributes"])):
        many = event(changes=[{"field": "f"}] * changes, attributes={str(n): "v" for n in range(attributes)})
        answer = world.record(world.tenant, many, world.id(81))
        answer.breaks(*fields) if fields else answer.ok()


@scenario
def types_of_the_service_itself_are_refused(world):
    for kind in ("audit_export", "audit_denial", "audit_", "audit_anything"):
        world.record(world.tenant, event(kind)).breaks("event.resource.type")
    for number, kind in enumerate(("audit", "auditlog", "Audit_export", "my_audit_export")):
        world.record(world.tenant, event(kind), world.id(number)).ok()


@scenario
def all_that_is_wrong_is_told_at_once(world):
    bad = {
        "action_type": 9,
        "resource": {"name": "n" * 513},
        "message": "\0",
        "changes": [{"field": "f"}, {"field": "", "old_value": "\x01", "new_value": "v" * 8193}],
        "context": {"source_ip": "\0", "user_agent": "u" * 513},
        "attributes": {"k": ""},
    }
    answer = world.record(world.tenant, bad, "x").refused("INVALID_ARGUMENT", "FIELD_INVALID")
    same(
        sorted(answer.fields),
        [
            "event.action_type",
            "event.actor",
            "event.attributes[k]",
            "event.changes[1].field",
            "event.changes[1].new_value",
            "event.changes[1].old_value",
            "event.context.source_ip",
            "event.context.user_agent",
            "event.message",
            "event.resource.id",
            "event.resource.name",
            "event.resource.type",
            "event_id",
        ],
    )
    many = world.batch([item(bad, "x")] * 100, world.tenant).refused("INVALID_ARGUMENT", "FIELD_INVALID")
    *told, (field, rest) = many.violations
    same((len(told) <= 50, field, rest), (True, "", f"and {1300 - len(told)} more"))


@scenario
def filters_that_break_rules_are_told_all_of_them(world):
    bad = {
        "action_types": [1, 0, 4],
        "resource_types": ["a", "", "b\0"],
        "resource_ids": ["x" * 256, "x" * 257],
        "actor_ids": ["a"] * 51,
        "actor_types": [-1],
        "project_ids": ["web", "tenants/acme/projects/web", ""],
        "start_leaf_index": -1,
    }
    fields = [
        "filter.action_types[1]",
        "filter.action_types[2]",
        "filter.actor_ids",
        "filter.actor_types[0]",
        "filter.project_ids[1]",
        "filter.project_ids[2]",
        "filter.resource_ids[1]",
        "filter.resource_types[1]",
        "filter.resource_types[2]",
        "filter.start_leaf_index",
    ]
    for method in ("ListEvents", "ExportCsv"):
        answer = world.call(method, {"parent": world.tenant, "filter": bad})
        same(sorted(answer.refused("INVALID_ARGUMENT", "FIELD_INVALID").fields), fields)
        world.call(method, {"parent": world.web, "filter": {"project_ids": ["web"]}}).breaks("filter.project_ids")
        same(world.call(method, {"parent": world.tenant, "filter": {"actor_ids": ["a"] * 50}}).code, "OK")
    world.list(world.tenant, order=4, page_size=-1).breaks("order", "page_size")
    world.list(world.web, filter={"tenant_only": True})
