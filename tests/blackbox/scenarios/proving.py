"""Proofs, computed anew: leaves made from events, roots made from leaves, inclusion and consistency by RFC 9162."""

import base64
import hashlib
import pathlib
import sys

from world import event, holds, id_of, item, same, scenario

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "golden"))
from verify_log import Tree, check_consistency, check_inclusion  # noqa: E402

SIZE = 13


def fill(world):
    """A log of 13 leaves, with notes among them; gives the root of each size on the way."""
    roots = {}
    remember(world, roots)
    for number in range(9):
        scope = [world.tenant, world.web, world.db][number % 3]
        name = world.record(scope, varied_event(number), world.id(number)).ok().receipt.name
        remember(world, roots)
        if number % 2:
            world.note(name, f"note on {number}", world.id(50 + number)).ok()
            remember(world, roots)
    return roots


def varied_event(number):
    """With notes or without, bare or with all that a body can have."""
    more = {
        "message": f"nr. {number}",
        "attributes": {"b": "2", "ä": "3", "a": "1", "🦀": "4", "\uffff": "5"},
        "changes": [{"field": "f", "old_value": "", "new_value": "1"}, {"field": "g"}],
        "context": {"source_ip": "198.51.100.7", "trace_id": "t"},
    }
    return event("clusterprofile" if number % 2 else "cluster", **(more if number % 3 else {}))


def remember(world, roots):
    size, root = head(world)
    roots[size] = root


def head(world):
    """The size and the root of the log, which its checkpoint says, too."""
    reply = world.call("GetCheckpoint", {"parent": world.tenant}).ok()
    origin, size, root = reply.checkpoint.split("\n")[:3]
    same((origin.split("/", 1)[1], size, reply.HasField("tree_size")), (world.tenant, str(reply.tree_size), True))
    same(base64.b64decode(root), reply.root_hash)
    return reply.tree_size, reply.root_hash


def all_leaves(world, page_size=1000):
    leaves = []
    while True:
        page = world.call("ListLeaves", {"parent": world.tenant, "start": len(leaves), "page_size": page_size}).ok()
        leaves += page.leaves
        if len(leaves) == page.tree_size:
            return leaves


def subjects(world):
    """What each leaf is of: an event, and a note on it or none."""
    found = {}
    for each in world.walk(world.tenant, order="ORDER_LOG"):
        found[each.leaf_index] = (each, None)
        for note in each.update_notes:
            found[note.leaf_index] = (each, note)
    return [found[place] for place in sorted(found)]


def commitment(salt, body):
    return hashlib.sha256(salt + body.SerializeToString(deterministic=True)).digest()


def copy_if_any(target, source):
    """An empty sub-message is an absent one."""
    if source.ByteSize():
        target.CopyFrom(source)


def leaf_of(world, stored, note):
    """The encoded leaf of an event, or of a note on it, made from what is shown, as leaf.proto says."""
    leaf = world.client.contract.type("auditlog.v1.Leaf")()
    if note:
        body = world.client.contract.type("auditlog.v1.NoteBody")(author=note.author, text=note.text)
        leaf.note.event_name, leaf.note.note_id = stored.name, note.note_id
        leaf.note.create_time.CopyFrom(note.create_time)
        leaf.note.body_commitment = commitment(note.salt, body)
    else:
        leaf.event.name, leaf.event.action_type = stored.name, stored.action_type
        leaf.event.resource_type = stored.resource.type
        leaf.event.record_time.CopyFrom(stored.record_time)
        leaf.event.body_commitment = commitment(stored.salt, event_body(world, stored))
    return leaf.SerializeToString(deterministic=True)


def event_body(world, stored):
    body = world.client.contract.type("auditlog.v1.EventBody")(message=stored.message, changes=stored.changes)
    for part in ("resource", "actor", "context", "recorder"):
        copy_if_any(getattr(body, part), getattr(stored, part))
    for key in sorted(stored.attributes, key=lambda key: key.encode()):
        body.attributes.add(key=key, value=stored.attributes[key])
    return body


@scenario
def leaves_are_what_is_stored_and_make_the_signed_roots(world):
    roots = fill(world)
    leaves = all_leaves(world)
    same(leaves, [leaf_of(world, *subject) for subject in subjects(world)], "leaves made from events and notes")
    same((len(leaves), sorted(roots)), (SIZE, [*range(SIZE + 1)]))
    tree = Tree(leaves)
    for size, root in roots.items():
        same(root, tree.root(size), f"root of size {size}")
    for page_size in (1, 5, SIZE):
        same(all_leaves(world, page_size), leaves)
    same(len(world.call("ListLeaves", {"parent": world.tenant, "start": SIZE}).ok().leaves), 0)


@scenario
def every_leaf_is_proven_at_every_size(world):
    roots = fill(world)
    for index, (stored, note) in enumerate(subjects(world)):
        for size in range(index + 1, SIZE + 1):
            request = {"name": stored.name, "note_id": note.note_id if note else "", "tree_size": size}
            proof = world.call("GetInclusionProof", request).ok()
            same((proof.leaf_index, proof.tree_size, proof.leaf), (index, size, leaf_of(world, stored, note)))
            holds(check_inclusion(proof.leaf, index, size, proof.hashes, roots[size]), f"leaf {index} at size {size}")
            same(bool(proof.checkpoint), size == SIZE, "a checkpoint comes with the current size only")
        under_tenant = f"{world.tenant}/events/{id_of(stored.name)}"
        now = world.call("GetInclusionProof", {"name": under_tenant, "note_id": note.note_id if note else ""}).ok()
        same(now.tree_size, SIZE)


@scenario
def every_size_is_the_beginning_of_every_larger_one(world):
    roots = fill(world)
    for old in range(SIZE + 1):
        for new in range(max(old, 1), SIZE + 1):
            request = {"parent": world.tenant, "old_size": old, "new_size": new}
            proof = world.call("GetConsistencyProof", request).ok()
            holds(check_consistency(old, new, proof.hashes, roots[old], roots[new]), f"{old} to {new}")
            same(bool(proof.checkpoint), new == SIZE, "a checkpoint comes with the current size only")
        current = world.call("GetConsistencyProof", {"parent": world.tenant, "old_size": old}).ok()
        same([*current.hashes], [*proof.hashes])


@scenario
def the_log_of_nobody_is_empty(world):
    same(head(world), (0, hashlib.sha256(b"").digest()))
    page = world.call("ListLeaves", {"parent": world.tenant}).ok()
    same((len(page.leaves), page.tree_size), (0, 0))
    same(len(world.call("GetConsistencyProof", {"parent": world.tenant}).ok().hashes), 0)
    world.call("ListLeaves", {"parent": world.tenant, "start": 1}).breaks("start")
    world.call("GetConsistencyProof", {"parent": world.tenant, "old_size": 1}).breaks("old_size")


@scenario
def sizes_that_the_log_does_not_have_are_named(world):
    world.batch([item(event("clusterprofile"), world.id(number)) for number in range(4)], world.tenant).ok()
    name = f"{world.tenant}/events/{world.id(3)}"
    world.note(name, "why", world.id(9)).ok()
    for size in (-1, 1, 4, 6, 2**63 - 1, -(2**63)):
        request = {"name": name, "note_id": world.id(9), "tree_size": size}
        world.call("GetInclusionProof", request).breaks("tree_size")
    for old, new, fields in (
        (-1, 0, ["old_size"]),
        (-1, -1, ["old_size", "new_size"]),
        (1, 6, ["new_size"]),
        (6, 0, ["old_size"]),
        (4, 3, ["old_size"]),
    ):
        request = {"parent": world.tenant, "old_size": old, "new_size": new}
        world.call("GetConsistencyProof", request).breaks(*fields)
    for start, page_size, fields in ((-1, -1, ["start", "page_size"]), (6, 0, ["start"]), (0, -1, ["page_size"])):
        request = {"parent": world.tenant, "start": start, "page_size": page_size}
        world.call("ListLeaves", request).breaks(*fields)


@scenario
def what_is_not_there_is_not_proven(world):
    world.record(world.web, event("clusterprofile"), world.id(1)).ok()
    world.record(world.tenant, event("clusterprofile"), world.id(2)).ok()
    world.note(f"{world.web}/events/{world.id(1)}", "why", world.id(9)).ok()
    for name, note_id in (
        (f"{world.tenant}/events/{world.id(3)}", ""),
        (f"{world.web}/events/{world.id(2)}", ""),
        (f"{world.db}/events/{world.id(1)}", ""),
        (f"{world.tenant}-2/events/{world.id(1)}", ""),
        (f"{world.web}/events/{world.id(1)}", world.id(3)),
        (f"{world.tenant}/events/{world.id(2)}", world.id(9)),
    ):
        request = {"name": name, "note_id": note_id}
        world.call("GetInclusionProof", request).refused("NOT_FOUND", "EVENT_NOT_FOUND")
    bad = {"name": f"{world.tenant}/events/x", "note_id": "y", "tree_size": -1}
    world.call("GetInclusionProof", bad).breaks("name", "note_id", "tree_size")
    for method in ("GetCheckpoint", "GetConsistencyProof", "ListLeaves"):
        world.call(method, {"parent": world.web}).breaks("parent")
