"""Recording one event: what is stored, identity and time, exactly once."""

from transcript import micros, millis_in
from world import DAY, HOUR, MINUTE, event, holds, id_of, rfc3339, same, scenario, uuid_at

FULL = event(
    kind="clusterprofile",
    action="UPDATE",
    message='Ann said "why?",\r\nand why not 🦀',
    changes=[
        {"field": "version", "old_value": "1.31", "new_value": "1.32"},
        {"field": "label", "new_value": ""},
        {"field": "owner", "old_value": "ben"},
        {"field": "secret"},
    ],
    context={"source_ip": "198.51.100.7", "user_agent": "console/4", "request_id": "r-1", "trace_id": "t-1"},
    attributes={"b": "2", "a": "1", "ticket": "OPS-12"},
)
CLIENT_GIVEN = ("action_type", "resource", "actor", "message", "changes", "context", "attributes")


def shown(world, answer):
    return world.client.to_json(answer.ok().event)


@scenario
def what_was_recorded_is_read_back_whole(world):
    recorder = world.root.with_claim("x-audit-subject-type", "service").with_claim("x-audit-subject-name", "R%C3%B6t")
    receipt = world.record(world.web, FULL, world.id(1), recorder).ok().receipt
    same(receipt.name, f"{world.web}/events/{world.id(1)}")
    same((receipt.HasField("leaf_index"), receipt.leaf_index), (True, 0))
    got = shown(world, world.get(receipt.name))
    same({key: got[key] for key in CLIENT_GIVEN}, FULL)
    same(got["recorder"], {"type": "ACTOR_TYPE_SERVICE", "id": "root", "name": "Röt"})
    same(got["accepts_update_notes"], True)
    same(micros(got["event_time"]), millis_in(world.id(1)) * 1000, "event_time")
    same(got["record_time"], world.client.to_json(receipt)["record_time"])
    same(len(world.get(receipt.name).ok().event.salt), 16, "bytes of salt")
    same(shown(world, world.get(f"{world.tenant}/events/{world.id(1)}")), got)


@scenario
def time_and_id_are_one_key(world):
    millis = world.now - HOUR
    time = rfc3339(millis)
    both = world.record(world.tenant, {**event(), "event_time": time}, uuid_at(millis, 1)).ok().receipt
    same(micros(world.client.to_json(both)["event_time"]), millis * 1000)
    id_only = world.record(world.tenant, event(), uuid_at(millis, 2)).ok().receipt
    same(id_only.event_time, both.event_time)
    time_only = world.record(world.tenant, {**event(), "event_time": time[:-1] + "999Z"}).ok().receipt
    same(time_only.event_time, both.event_time, "floored to the millisecond")
    same(millis_in(id_of(time_only.name)), millis)
    neither = world.record(world.tenant, event()).ok().receipt
    same(micros(world.client.to_json(neither)["event_time"]), millis_in(id_of(neither.name)) * 1000)
    same(id_of(neither.name)[14], "7", "version of the id")
    apart = world.record(world.tenant, {**event(), "event_time": rfc3339(millis + 1)}, uuid_at(millis, 3))
    apart.breaks("event.event_time")


@scenario
def an_id_is_a_uuid_v7_and_not_far_ahead(world):
    for bad in (
        "x",
        "01890a5d-ac96-1000-8000-000000000000",
        "01890a5d-ac96-4000-8000-000000000000",
        "01890a5d-ac96-7000-0000-000000000000",
        "01890A5D-AC96-7000-8000-000000000000",
        "01890a5dac9670008000000000000000",
        "{01890a5d-ac96-7000-8000-000000000000}",
        "00000000-0000-0000-0000-000000000000",
    ):
        world.record(world.tenant, event(), bad).breaks("event_id")
    world.record(world.tenant, event(), world.id(1, before=-4 * MINUTE)).ok()
    world.record(world.tenant, event(), world.id(2, before=-HOUR)).breaks("event_id")
    world.record(world.tenant, {**event(), "event_time": rfc3339(world.now + HOUR)}).breaks("event.event_time")
    for time in ("1960-01-01T00:00:00Z", "2100-01-01T00:00:00Z"):
        world.record(world.tenant, {**event(), "event_time": time}).breaks("event.event_time")
    world.record(world.tenant, event(), uuid_at(0, 3)).ok()
    same(len(world.walk(world.tenant)), 2)


@scenario
def a_repeat_gets_the_first_receipt(world):
    first = world.record(world.web, FULL, world.id(1)).ok()
    world.record(world.tenant, event(), world.id(2)).ok()
    same(world.record(world.web, FULL, world.id(1)).ok(), first)
    # Whoever repeats it, and whatever is said in fields that are output only.
    ignored = {**FULL, "name": "x", "record_time": "2020-01-01T00:00:00Z", "leaf_index": "77", "salt": "AAAA"}
    ignored["recorder"], ignored["accepts_update_notes"] = {"id": "mallory"}, False
    other = world.root.with_claim("x-audit-subject-name", "Other")
    same(world.record(world.web, ignored, world.id(1), other).ok(), first)
    reordered = {**FULL, "attributes": {"ticket": "OPS-12", "a": "1", "b": "2"}}
    same(world.record(world.web, reordered, world.id(1)).ok(), first)
    same(len(world.walk(world.tenant)), 2)


@scenario
def an_empty_message_is_an_absent_one(world):
    first = world.record(world.tenant, event(), world.id(1)).ok()
    same(world.record(world.tenant, event(context={}), world.id(1)).ok(), first)
    same(world.record(world.tenant, event(context={"trace_id": ""}), world.id(1)).ok(), first)


@scenario
def an_id_with_other_content_is_taken(world):
    world.record(world.web, FULL, world.id(1)).ok()
    changes = FULL["changes"]
    others = [
        {**FULL, "action_type": "ACTION_TYPE_DELETE"},
        {**FULL, "message": ""},
        {**FULL, "resource": {**FULL["resource"], "name": "n"}},
        {**FULL, "actor": {**FULL["actor"], "type": "ACTOR_TYPE_SERVICE"}},
        {**FULL, "attributes": {}},
        {**FULL, "context": {**FULL["context"], "trace_id": "t-2"}},
        {**FULL, "changes": changes[:3]},
        {**FULL, "changes": [*reversed(changes)]},
        {**FULL, "changes": [changes[0], {"field": "label"}, *changes[2:]]},
    ]
    for other in others:
        taken(world, world.record(world.web, other, world.id(1)))
    # In another scope too; and where the first one is stays unsaid.
    for parent in (world.tenant, world.db):
        answer = taken(world, world.record(parent, FULL, world.id(1)))
        holds("projects/web" not in f"{answer.text} {answer.info}", f"{answer} tells where the other one is")
    same(len(world.walk(world.tenant)), 1)
    # The id is the tenant's own.
    same(world.record(f"{world.tenant}-2", FULL, world.id(1)).ok().receipt.leaf_index, 0)


def taken(world, answer):
    answer.refused("ALREADY_EXISTS", "EVENT_DIFFERS")
    same(answer.info, {"event_id": world.id(1), "index": "0"})
    return answer


@scenario
def places_have_no_gaps(world):
    for number in range(6):
        receipt = world.record([world.tenant, world.web, world.db][number % 3], event(), world.id(number)).ok().receipt
        same(receipt.leaf_index, number)
        world.record(world.tenant, event("", ""), world.id(90)).refused("INVALID_ARGUMENT", "FIELD_INVALID")
        world.record(world.tenant, event(actor="other"), world.id(0)).refused("ALREADY_EXISTS", "EVENT_DIFFERS")
    same([each.leaf_index for each in world.walk(world.tenant, order="ORDER_LOG")], [*range(6)])


@scenario
def times_long_ago_are_times(world):
    ids = [world.id(1, before=days * DAY) for days in (1, 31, 365, 3650, 20000)]
    for event_id in ids:
        world.record(world.web, event(), event_id).ok()
    listed = [id_of(each.name) for each in world.walk(world.tenant, order="ORDER_OLDEST_FIRST")]
    same(listed, ids[::-1])


@scenario
def a_trace_id_is_taken_from_the_call(world):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    traced = world.root.with_claim("traceparent", f"00-{trace}-00f067aa0ba902b7-01")
    receipt = world.record(world.tenant, event(), world.id(1), traced).ok().receipt
    same(world.get(receipt.name).ok().event.context.trace_id, trace)
    same(world.record(world.tenant, event(), world.id(1)).ok().receipt, receipt)
    own = world.record(world.tenant, event(context={"trace_id": "own"}), world.id(2), traced).ok().receipt
    same(world.get(own.name).ok().event.context.trace_id, "own")
