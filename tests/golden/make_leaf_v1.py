#!/usr/bin/env python3
"""Writes leaf_v1.json: worked cases of the leaf format, version 1.

The encoder below is written from the words of proto/auditlog/v1/leaf.proto alone, with neither a protobuf library nor
this project's Rust code, so that a mistake in one does not hide in the other. The first case is the worked example of
leaf.proto; its hashes are also asserted here, as that file prints them.

    python3 tests/golden/make_leaf_v1.py > tests/golden/leaf_v1.json
"""

import calendar
import hashlib
import json
import time

ACTIONS = {"create": 1, "update": 2, "delete": 3}
ACTORS = {"user": 1, "service": 2, "system": 3}


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def number_field(number, value):
    """Rule 3: a zero is not written."""
    return varint(number << 3) + varint(value) if value else b""


def bytes_always(number, value):
    """A length-delimited field that is written although it may be empty (rules 4 and 5)."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def bytes_field(number, value):
    """Rules 3 and 5: an empty text, an empty bytes and an empty sub-message are not written."""
    return bytes_always(number, value) if value else b""


def text_field(number, value):
    return bytes_field(number, value.encode("utf-8"))


def optional_text(number, owner, key):
    """Rule 4: written if it is there, also when it is empty."""
    return bytes_always(number, owner[key].encode("utf-8")) if key in owner else b""


def resource(value):
    return text_field(1, value["type"]) + text_field(2, value["id"]) + text_field(3, value["name"])


def actor(value):
    return number_field(1, ACTORS[value["type"]]) + text_field(2, value["id"]) + text_field(3, value["name"])


def change(value):
    return text_field(1, value["field"]) + optional_text(2, value, "old_value") + optional_text(3, value, "new_value")


def context(value):
    keys = ["source_ip", "user_agent", "request_id", "trace_id"]
    return b"".join(text_field(number, value[key]) for number, key in enumerate(keys, 1))


def attributes(pairs):
    """Rule 6: sorted by the bytes of the key. Each element is a sub-message with its own tag (rule 5)."""
    in_order = sorted(pairs, key=lambda pair: pair[0].encode("utf-8"))
    return b"".join(bytes_always(6, text_field(1, key) + text_field(2, value)) for key, value in in_order)


def event_body(body):
    return b"".join(
        [
            bytes_field(1, resource(body["resource"])),
            bytes_field(2, actor(body["actor"])),
            text_field(3, body["message"]),
            b"".join(bytes_always(4, change(value)) for value in body["changes"]),
            bytes_field(5, context(body["context"]) if "context" in body else b""),
            attributes(body["attributes"]),
            bytes_field(7, actor(body["recorder"])),
        ]
    )


def note_body(body):
    return bytes_field(1, actor(body["author"])) + text_field(2, body["text"])


def timestamp(text):
    """RFC 3339 in UTC with exactly six decimals (rule 8)."""
    seconds, micros = text.removesuffix("Z").split(".")
    seconds = calendar.timegm(time.strptime(seconds, "%Y-%m-%dT%H:%M:%S"))
    return number_field(1, seconds) + number_field(2, int(micros) * 1000)


def event_leaf(case, commitment):
    leaf = b"".join(
        [
            text_field(1, case["event_name"]),
            number_field(2, ACTIONS[case["action_type"]]),
            text_field(3, case["body"]["resource"]["type"]),
            bytes_field(4, timestamp(case["record_time"])),
            bytes_field(5, commitment),
        ]
    )
    return bytes_always(1, leaf)


def note_leaf(case, commitment):
    leaf = b"".join(
        [
            text_field(1, case["event_name"]),
            text_field(2, case["note_id"]),
            bytes_field(3, timestamp(case["create_time"])),
            bytes_field(4, commitment),
        ]
    )
    return bytes_always(2, leaf)


def work_out(case):
    body, leaf = (event_body, event_leaf) if case["kind"] == "event" else (note_body, note_leaf)
    body = body(case["body"])
    commitment = hashlib.sha256(bytes.fromhex(case["salt"]) + body).digest()
    leaf = leaf(case, commitment)
    expected = {
        "body": body.hex(),
        "body_commitment": commitment.hex(),
        "leaf": leaf.hex(),
        "leaf_hash": hashlib.sha256(b"\x00" + leaf).hexdigest(),
    }
    return {**case, "expected": expected}


CASES = [
    {
        "name": "the example of leaf.proto",
        "kind": "note",
        "event_name": "tenants/acme/events/01900000-0000-7000-8000-000000000001",
        "note_id": "01900000-0000-7000-8000-000000000002",
        "create_time": "2024-06-10T00:00:00.000001Z",
        "salt": "000102030405060708090a0b0c0d0e0f",
        "body": {"author": {"type": "user", "id": "ann", "name": ""}, "text": "hi"},
    },
    {
        "name": "an event at a tenant with nothing that may be absent, at a whole second",
        "kind": "event",
        "event_name": "tenants/acme/events/01900000-0000-7000-8000-000000000003",
        "action_type": "create",
        "record_time": "2024-06-10T00:00:00.000000Z",
        "salt": "00000000000000000000000000000000",
        "body": {
            "resource": {"type": "cluster", "id": "c-1", "name": ""},
            "actor": {"type": "system", "id": "", "name": ""},
            "message": "",
            "changes": [],
            "attributes": [],
            "recorder": {"type": "service", "id": "cluster-service", "name": ""},
        },
    },
    {
        "name": "a project's event with everything set, changes in their order, and attributes to be sorted by UTF-8 bytes",
        "kind": "event",
        "event_name": "tenants/acme/projects/Web_1.x~y-z/events/018f3b2c-1d00-7abc-9def-0123456789ab",
        "action_type": "update",
        "record_time": "2024-05-02T23:59:59.999999Z",
        "salt": "ffeeddccbbaa99887766554433221100",
        "body": {
            "resource": {"type": "clusterprofile", "id": "profil-ä", "name": "Größe 🦀 \"A\", B"},
            "actor": {"type": "user", "id": "ann@example.com", "name": "Ann Ångström"},
            "message": "Changed the size\r\n\tand the labels, for good: " + "long " * 40,
            "changes": [
                {"field": "spec.size", "old_value": "3", "new_value": "5"},
                {"field": "labels", "old_value": "", "new_value": "a=b,c=\"d\""},
                {"field": "added", "new_value": "naïve (composed)"},
                {"field": "cleared", "old_value": "nai\u0308ve (decomposed)", "new_value": ""},
                {"field": "removed", "old_value": "gone"},
                {"field": "added", "new_value": "twice, and not sorted"},
                {"field": "touched"},
            ],
            "context": {
                "source_ip": "2001:db8::1",
                "user_agent": "Mozilla/5.0 (X11; Linux x86_64)",
                "request_id": "req-42",
                "trace_id": "0af7651916cd43dd8448eb211c80319c",
            },
            "attributes": [
                ["zeta", "last of the ASCII keys"],
                ["\U0001f980", "after U+FF5E by UTF-8 bytes, before it by UTF-16 units"],
                ["\uff5e", "before U+1F980"],
                ["Zeta", "upper case before lower case"],
                ["a", "1"],
                ["a.b", "longer after its prefix"],
                ["é", "composed"],
                ["e\u0301", "decomposed: another key"],
                ["10", "before 9"],
                ["9", "after 10"],
            ],
            "recorder": {"type": "service", "id": "gateway", "name": "API gateway – EU"},
        },
    },
    {
        "name": "an event with a context of one field, an actor without a name, and a microsecond",
        "kind": "event",
        "event_name": "tenants/0/projects/p/events/00000000-0001-7000-8000-000000000000",
        "action_type": "delete",
        "record_time": "2000-01-01T00:00:00.000001Z",
        "salt": "0123456789abcdef0123456789abcdef",
        "body": {
            "resource": {"type": "api_key", "id": "k", "name": ""},
            "actor": {"type": "service", "id": "rotation", "name": ""},
            "message": "",
            "changes": [],
            "context": {"source_ip": "", "user_agent": "", "request_id": "", "trace_id": "t"},
            "attributes": [["k", "v"]],
            "recorder": {"type": "user", "id": "root", "name": ""},
        },
    },
    {
        "name": "a project's note of several lines whose lengths take two bytes",
        "kind": "note",
        "event_name": "tenants/acme/projects/Web_1.x~y-z/events/018f3b2c-1d00-7abc-9def-0123456789ab",
        "note_id": "018f3b2c-2000-7fff-bfff-ffffffffffff",
        "create_time": "2024-05-03T00:00:01.500000Z",
        "salt": "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
        "body": {
            "author": {"type": "service", "id": "console", "name": "Konsole für Ä"},
            "text": "Größer gemacht:\n- 3 → 5 🦀\n" + "weil es sein musste, " * 20,
        },
    },
]


def main():
    cases = [work_out(case) for case in CASES]
    example = cases[0]["expected"]
    assert example["body"] == "0a0708011203616e6e12026869"
    assert example["body_commitment"] == "84778dfbf5185cc098ad597ee51ff29e40422e93097ac0712725241a53a7e4c7"
    assert example["leaf_hash"] == "638a86959f6e7c8adf25d6dc2f8c6d01cc09cf9ee1750ad6efcc172d94f7c1a2"
    print(json.dumps({"format": "auditlog leaf v1", "cases": cases}, indent=2, ensure_ascii=True))


if __name__ == "__main__":
    main()
