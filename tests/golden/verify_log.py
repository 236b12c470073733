#!/usr/bin/env python3
"""Checks a log from the outside: leaves, signed checkpoints, inclusion and consistency proofs.

Written from docs/leaf-format.md, RFC 6962, RFC 9162 (the two verification algorithms of its section 2.1) and RFC 8032
alone, without this project's Rust code and with nothing but the standard library, so that a mistake in one does not hide
in the other.

    python3 tests/golden/verify_log.py LOG.json

LOG.json holds
    verifier_key        what `auditlog key show` prints last
    leaves              all leaves, in hex, from leaf 0; may be left out, then roots come from the checkpoints
    checkpoints         signed notes
    inclusion_proofs    [{"leaf_index", "tree_size", "hashes": [hex], "leaf": hex, only where leaves are left out}]
    consistency_proofs  [{"old_size", "new_size", "hashes": [hex]}]

Prints one line that begins with OK, or one line for each thing that is wrong; exits with 0 only in the first case.
"""

import base64
import hashlib
import json
import sys


def sha256(data):
    return hashlib.sha256(data).digest()


# The tree: RFC 6962, section 2.1.


def leaf_hash(leaf):
    return sha256(b"\0" + leaf)


def node_hash(left, right):
    return sha256(b"\1" + left + right)


class Tree:
    """The tree over a list of leaves; the roots of ranges are remembered."""

    def __init__(self, leaves):
        self.hashes = [leaf_hash(leaf) for leaf in leaves]
        self.known = {}

    def root(self, size):
        return self.root_of(0, size)

    def root_of(self, start, end):
        count = end - start
        if count == 0:
            return sha256(b"")
        if count == 1:
            return self.hashes[start]
        if (start, end) not in self.known:
            half = 1
            while half * 2 < count:
                half *= 2
            left, right = self.root_of(start, start + half), self.root_of(start + half, end)
            self.known[start, end] = node_hash(left, right)
        return self.known[start, end]


def check_inclusion(leaf, index, size, hashes, root):
    """RFC 9162, section 2.1.3.2."""
    if index >= size:
        return False
    fn, sn, r = index, size - 1, leaf_hash(leaf)
    for p in hashes:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            r = node_hash(p, r)
            while not fn & 1 and fn != 0:
                fn >>= 1
                sn >>= 1
        else:
            r = node_hash(r, p)
        fn >>= 1
        sn >>= 1
    return sn == 0 and r == root


def check_consistency(first, second, hashes, first_root, second_root):
    """RFC 9162, section 2.1.4.2; of nothing there is nothing to show."""
    if first > second:
        return False
    if first == 0:
        return not hashes and first_root == sha256(b"")
    if first == second:
        return not hashes and first_root == second_root
    path = list(hashes)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        return False
    fn, sn = first - 1, second - 1
    while fn & 1:
        fn >>= 1
        sn >>= 1
    fr = sr = path[0]
    for c in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            fr, sr = node_hash(c, fr), node_hash(c, sr)
            while not fn & 1 and fn != 0:
                fn >>= 1
                sn >>= 1
        else:
            sr = node_hash(sr, c)
        fn >>= 1
        sn >>= 1
    return sn == 0 and fr == first_root and sr == second_root


# Ed25519: RFC 8032, section 5.1. Points are (X, Y, Z, T) with x = X/Z, y = Y/Z, xy = T/Z.

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def point_add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def point_times(scalar, point):
    result = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = point_add(result, point)
        point = point_add(point, point)
        scalar >>= 1
    return result


def point_equal(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0


def point_decode(encoded):
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        return None
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (x * x - x2) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point_decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def ed25519_check(public_key, message, signature):
    if len(public_key) != 32 or len(signature) != 64:
        return False
    a, r = point_decode(public_key), point_decode(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if a is None or r is None or s >= L:
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public_key + message).digest(), "little") % L
    return point_equal(point_times(s, BASE), point_add(r, point_times(k, a)))


# Notes and checkpoints: C2SP signed-note and tlog-checkpoint.


class Wrong(Exception):
    pass


def decode64(text):
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Wrong(f"bad base64: {error}") from None


def verifier_key(text):
    """The name, the id and the public key in name+hash+base64."""
    parts = text.strip().split("+", 2)
    if len(parts) != 3:
        raise Wrong("the verifier key is not name+hash+base64")
    name, key_id, key = parts[0], bytes.fromhex(parts[1]), decode64(parts[2])
    if len(key) != 33 or key[0] != 1:
        raise Wrong("the verifier key is not of Ed25519")
    if key_id != sha256(name.encode() + b"\n" + key)[:4]:
        raise Wrong("the verifier key's hash does not belong to its name and key")
    return name, key_id, key[1:]


def checkpoint(note, key):
    """The size and the root in a note that the key has signed."""
    name, key_id, public_key = key
    head, blank, signatures = note.rpartition("\n\n")
    if not blank or not signatures.endswith("\n"):
        raise Wrong("a checkpoint is no signed note")
    text = head + "\n"
    found = False
    for line in signatures[:-1].split("\n"):
        dash, _, rest = line.partition(" ")
        signer, _, encoded = rest.partition(" ")
        if dash != "\u2014":
            raise Wrong("a signature line does not begin with an em dash")
        data = decode64(encoded)
        if signer == name and data[:4] == key_id:
            if not ed25519_check(public_key, text.encode(), data[4:]):
                raise Wrong(f"the signature of a checkpoint by {name} is not valid")
            found = True
    if not found:
        raise Wrong(f"a checkpoint is not signed by {name}")
    lines = text.split("\n")
    if len(lines) < 4 or lines[0] != name:
        raise Wrong(f"a checkpoint is of {lines[0]}, not of {name}")
    root = decode64(lines[2])
    if not lines[1].isascii() or not lines[1].isdigit() or str(int(lines[1])) != lines[1] or len(root) != 32:
        raise Wrong("a checkpoint has no size or no root")
    return int(lines[1]), root


def hashes(texts):
    decoded = [bytes.fromhex(text) for text in texts]
    if any(len(value) != 32 for value in decoded):
        raise Wrong("a hash has not 32 bytes")
    return decoded


class Log:
    def __init__(self, log):
        self.key = verifier_key(log["verifier_key"])
        self.leaves = [bytes.fromhex(leaf) for leaf in log["leaves"]] if "leaves" in log else None
        self.tree = Tree(self.leaves) if self.leaves is not None else None
        self.signed = {}

    def root(self, size):
        """The root at a size: from the leaves if they are there, else from the checkpoint of that size."""
        if self.tree is not None and size <= len(self.leaves):
            return self.tree.root(size)
        if self.tree is None and size == 0:
            return sha256(b"")
        if size in self.signed:
            return self.signed[size]
        raise Wrong(f"there are neither leaves nor a checkpoint for size {size}")

    def check_checkpoint(self, note):
        size, root = checkpoint(note, self.key)
        if self.signed.setdefault(size, root) != root:
            raise Wrong(f"two checkpoints of size {size} have different roots")
        if self.root(size) != root:
            raise Wrong(f"the checkpoint of size {size} has another root than its leaves")

    def check_inclusion(self, proof):
        index, size = proof["leaf_index"], proof["tree_size"]
        leaf = bytes.fromhex(proof["leaf"]) if "leaf" in proof else self.leaves[index]
        if not check_inclusion(leaf, index, size, hashes(proof["hashes"]), self.root(size)):
            raise Wrong(f"the proof does not hold that leaf {index} is in the log of size {size}")

    def check_consistency(self, proof):
        old, new = proof["old_size"], proof["new_size"]
        if not check_consistency(old, new, hashes(proof["hashes"]), self.root(old), self.root(new)):
            raise Wrong(f"the proof does not hold that the log of size {new} extends the one of size {old}")


def check(log):
    """All that is wrong, and how much was looked at."""
    problems = []

    def attempt(work, items):
        for item in items:
            try:
                work(item)
            except Wrong as wrong:
                problems.append(str(wrong))
        return len(items)

    checked = Log(log)
    counts = [
        (len(checked.leaves or []), "leaves"),
        (attempt(checked.check_checkpoint, log.get("checkpoints", [])), "checkpoints"),
        (attempt(checked.check_inclusion, log.get("inclusion_proofs", [])), "inclusion proofs"),
        (attempt(checked.check_consistency, log.get("consistency_proofs", [])), "consistency proofs"),
    ]
    return problems, counts


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: verify_log.py LOG.json")
    with open(sys.argv[1], encoding="utf-8") as file:
        log = json.load(file)
    try:
        problems, counts = check(log)
    except (Wrong, KeyError, IndexError, TypeError, ValueError) as error:
        problems, counts = [f"{type(error).__name__}: {error}"], []
    for problem in problems:
        print(problem)
    if problems:
        sys.exit(1)
    print("OK: " + ", ".join(f"{count} {what}" for count, what in counts))


if __name__ == "__main__":
    main()
