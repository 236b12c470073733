"""CSV exports: a file that reads back as what lists show, resumes without a seam, and tells of itself."""

import csv
import hashlib
import io
import json
import re

from transcript import micros
from world import HOUR, event, holds, id_of, item, same, scenario

HEADER = (
    "event_id,event_time,record_time,tenant_id,project_id,action_type,resource_type,resource_id,resource_name,actor_type,"
    "actor_id,actor_name,recorder_id,message,changes,source_ip,user_agent,request_id,trace_id,attributes,update_notes,"
    "leaf_index"
)
PROOF_HEADER = f"{HEADER},recorder_type,recorder_name,salt,body_commitment"
OWN = {"resource_types": ["clusterprofile", "cluster"]}
# Texts that a careless writer, reader or spreadsheet trips over.
TEXTS = [
    "plain",
    "=1+1",
    "+1",
    "-1",
    "@sum",
    "\t=1",
    "\r=1",
    "'",
    "''quoted",
    '"',
    'a "quoted" word, and a comma',
    "two\r\nlines",
    "\nfirst",
    "last\r",
    " spaces ",
    ",",
    "Grüße, 世界 🦀 \u202e\ufeff",
    '{"json": [1, null]}',
    "=\"a\",'b'\r\n",
    "\\ \\n",
]


class Export:
    """One export: the file, and what was told about it."""

    def __init__(self, world, caller=None, **request):
        answer = world.quiet("ExportCsv", request, caller)
        answer.ok()
        self.data = b"".join(reply.data for reply in answer.replies)
        self.types = {reply.content_type for reply in answer.replies}
        self.headers, self.trailers = answer.headers, answer.trailers
        self.size = int(self.headers["x-audit-log-size"])
        self.rows = list(csv.reader(io.StringIO(self.data.decode(), newline=""), strict=True))
        same(self.trailers["x-audit-sha256"], hashlib.sha256(self.data).hexdigest(), "x-audit-sha256")
        world.transcript.note("export", [request, self.shown(world), self.told(answer)])
        # Rows that were read do not show how they were quoted.
        world.transcript.note("quotes", self.data.count(b'"'))

    def shown(self, world):
        """The rows; without their event_time where the server made the id, which has that time in it."""
        given = {"event_id"} | world.transcript.placeholders.given
        return [[row[0], row[1] if row[0] in given else "", *row[2:]] for row in self.rows]

    @staticmethod
    def told(answer):
        names = ("x-audit-log-size", "x-audit-row-count", "content-disposition")
        return {name: {**answer.headers, **answer.trailers}.get(name) for name in names}

    def dicts(self):
        return [dict(zip(self.rows[0], map(unguarded, row))) for row in self.rows[1:]]


def unguarded(cell):
    """What a program does: drops the ' that guards a cell."""
    holds(not cell.startswith(("=", "+", "-", "@", "\t", "\r")), f"not guarded: {cell!r}")
    return cell[1:] if cell.startswith("'") else cell


def event_of(text):
    """An event that has the text wherever there may be text."""
    return {
        "action_type": "ACTION_TYPE_DELETE",
        "resource": {"type": "clusterprofile", "id": text, "name": text},
        "actor": {"type": "ACTOR_TYPE_SERVICE", "id": text, "name": text},
        "message": text,
        "changes": [
            {"field": text, "old_value": text, "new_value": text},
            {"field": "set", "new_value": ""},
            {"field": "unset", "old_value": ""},
            {"field": "neither"},
        ],
        "context": dict.fromkeys(("source_ip", "user_agent", "request_id", "trace_id"), text),
        "attributes": {text: text, "k": "v"},
    }


def text_id(world, number):
    """In no order of time."""
    return world.id(number, before=HOUR + number * 7 % 5)


def fill(world):
    recorder = world.root.with_claim("x-audit-subject-name", "%3DR%C3%B6t%2C%22")
    scopes = [world.tenant, world.web, world.db]
    requests = [item(event_of(text), text_id(world, number), scopes[number % 3]) for number, text in enumerate(TEXTS)]
    world.batch(requests, caller=recorder).ok()
    world.record(world.web, {**event(), "actor": {"type": "ACTOR_TYPE_SYSTEM"}}, world.id(99)).ok()
    for number in (1, 4, 4):
        name = f"{world.tenant}/events/{text_id(world, number)}"
        world.note(name, TEXTS[number], caller=recorder).ok()


def expected_row(world, shown, proof_columns):
    """A row as the event that ListEvents shows should have it, times left out."""
    found = world.client.to_json(shown)
    path = shown.name.split("/")
    resource, actor, context = (found.get(part, {}) for part in ("resource", "actor", "context"))
    row = {
        "event_id": path[-1],
        "tenant_id": path[1],
        "project_id": path[3] if len(path) == 6 else "",
        "action_type": short(found["action_type"]),
        **{f"resource_{part}": resource.get(part, "") for part in ("type", "id", "name")},
        "actor_type": short(actor["type"]),
        **{f"actor_{part}": actor.get(part, "") for part in ("id", "name")},
        "recorder_id": found["recorder"]["id"],
        "message": found.get("message", ""),
        "changes": found.get("changes", []),
        **{part: context.get(part, "") for part in ("source_ip", "user_agent", "request_id", "trace_id")},
        "attributes": found.get("attributes", {}),
        "update_notes": [note_json(world, note, proof_columns) for note in shown.update_notes],
        "leaf_index": str(shown.leaf_index),
    }
    if proof_columns:
        row["recorder_type"], row["recorder_name"] = short(found["recorder"]["type"]), found["recorder"].get("name", "")
        row["salt"], row["body_commitment"] = shown.salt.hex(), ""
    return row


def note_json(world, note, proof_columns):
    found = world.client.to_json(note)
    author = {"type": short(found["author"]["type"]), "id": note.author.id, "name": note.author.name}
    shown = {"note_id": note.note_id, "author": author, "text": note.text, "leaf_index": note.leaf_index}
    return {**shown, "salt": note.salt.hex()} if proof_columns else shown


def short(enum_name):
    return enum_name.rpartition("_")[2].lower()


def check_times(world, row, shown):
    found = world.client.to_json(shown)
    for name, digits in (("event_time", 3), ("record_time", 6)):
        holds(re.fullmatch(rf"\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{{digits}}}Z", row[name]), f"{name} {row[name]}")
        same(micros(row.pop(name)), micros(found[name]), name)
    for note, shown_note in zip(row["update_notes"], shown.update_notes):
        same(micros(note.pop("create_time")), micros(shown_note.create_time.ToJsonString()))


@scenario
def the_file_reads_back_as_what_lists_show(world):
    fill(world)
    for parent in (world.tenant, world.web):
        for order in ("ORDER_UNSPECIFIED", "ORDER_NEWEST_FIRST", "ORDER_OLDEST_FIRST", "ORDER_LOG"):
            for proofs in (False, True):
                export = Export(world, parent=parent, order=order, filter=OWN, proof_columns=proofs)
                listed = world.walk(parent, order=order, filter=OWN)
                same(len(export.rows) - 1, len(listed))
                for row, shown in zip(export.dicts(), listed):
                    for name in ("changes", "attributes", "update_notes"):
                        row[name] = json.loads(row[name])
                    check_times(world, row, shown)
                    same(row, expected_row(world, shown, proofs), f"row of {shown.name}")


@scenario
def the_file_is_rfc_4180_and_its_metadata_tell_of_it(world):
    fill(world)
    export = Export(world, parent=world.web, filter=OWN)
    holds(export.data.startswith(f"{HEADER}\r\n".encode()), "header")
    holds(export.data.endswith(b"\r\n"), "the last line's end")
    same(export.types, {"text/csv; charset=utf-8"})
    same((export.size, export.trailers["x-audit-row-count"]), (24, str(len(export.rows) - 1)))
    names = f'attachment; filename="audit-{world.tenant[8:]}-web-'
    holds(export.headers["content-disposition"].startswith(names), export.headers["content-disposition"])
    proof = Export(world, parent=world.tenant, proof_columns=True)
    holds(proof.data.startswith(f"{PROOF_HEADER}\r\n".encode()), "header with proof columns")
    manifest = proof.trailers["x-audit-manifest-bin"].decode()
    origin, version, told = manifest.split("\n")[:3]
    same((origin.split("/", 1)[1], version), (f"{world.tenant}/exports", "auditlog export manifest v1"))
    told = json.loads(told)
    same((told["parent"], told["filter"], told["order"]), (world.tenant, {}, "newest_first"))
    same((told["row_count"], told["sha256"]), (len(proof.rows) - 1, proof.trailers["x-audit-sha256"]))
    same(told["checkpoint"].split("\n")[1], str(proof.size))


@scenario
def an_export_resumes_without_a_seam(world):
    fill(world)
    for order in ("ORDER_NEWEST_FIRST", "ORDER_OLDEST_FIRST", "ORDER_LOG"):
        request = {"parent": world.tenant, "order": order, "filter": OWN, "proof_columns": True}
        whole = Export(world, **request)
        late = world.note(f"{world.tenant}/events/{text_id(world, 4)}", f"after {order}").ok()
        holds(late.note.leaf_index > whole.size, "a note that is not in the file")
        for place in (1, 7, len(whole.rows) - 1):
            rest = Export(world, **request, log_size=whole.size, after_event_id=whole.rows[place][0])
            same(rest.rows, whole.rows[place + 1 :], f"after row {place}")
            same(int(rest.trailers["x-audit-row-count"]), len(rest.rows))
            holds(whole.data.endswith(rest.data), "the bytes of the rest")


@scenario
def an_export_is_an_event_outside_of_itself(world):
    world.record(world.web, event(), world.id(1)).ok()
    first = Export(world, parent=world.tenant, filter={"actor_ids": ["ann"]}, order="ORDER_LOG")
    same((first.size, len(first.rows)), (1, 2))
    second = Export(world, parent=world.tenant, order="ORDER_LOG")
    same((second.size, [row[6] for row in second.rows[1:]]), (2, ["cluster", "audit_export"]))
    told = world.walk(world.tenant, order="ORDER_LOG", filter={"resource_types": ["audit_export"]})
    same([each.leaf_index for each in told], [1, 2])
    same((told[0].recorder.id, told[0].actor.id, told[0].resource.id), ("auditlog", "root", id_of(told[0].name)))
    world.record(world.web, event("audit_export")).breaks("event.resource.type")


@scenario
def an_empty_scope_gives_a_header(world):
    export = Export(world, parent=world.tenant)
    same((export.data, export.size, export.trailers["x-audit-row-count"]), (f"{HEADER}\r\n".encode(), 0, "0"))
    world.record(world.web, event(), world.id(1)).ok()
    same(Export(world, parent=world.db).data, f"{HEADER}\r\n".encode())


@scenario
def what_breaks_the_rules_of_exports_is_named(world):
    world.record(world.web, event(), world.id(1)).ok()
    for request, field in (
        ({"log_size": 1}, "after_event_id"),
        ({"after_event_id": world.id(1)}, "log_size"),
        ({"log_size": -1, "after_event_id": world.id(1)}, "log_size"),
        ({"log_size": 99, "after_event_id": world.id(1)}, "log_size"),
        ({"log_size": 1, "after_event_id": "x"}, "after_event_id"),
        ({"order": 4}, "order"),
        ({"filter": {"action_types": [0]}}, "filter.action_types[0]"),
    ):
        world.call("ExportCsv", {"parent": world.tenant, **request}).breaks(field)
    same(len(world.walk(world.tenant)), 1, "events, and none about an export that was refused")
