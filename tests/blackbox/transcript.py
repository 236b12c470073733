"""The transcript: one JSON object a line for each call, in which only what the contract leaves open is left out.

What a server makes up differs from run to run: ids, salts, times, hashes, tokens. Each such value is replaced by a
placeholder with a number, the same one wherever that value comes again. So a receipt that is not the first one, or a
note that is shown with another time than it was confirmed with, still is a difference.
"""

import hashlib
import json
import re
from datetime import datetime, timezone

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")
HASH = re.compile(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{32}\b")
STAMP = re.compile(r"\d{8}T\d{6}Z")
VARIABLE = re.compile("|".join(f"({pattern.pattern})" for pattern in (UUID, TIME, HASH, STAMP)))
OPAQUE = {
    "salt": "salt",
    "body_commitment": "hash",
    "root_hash": "hash",
    "hashes": "hash",
    "leaf": "leaf",
    "leaves": "leaf",
    "checkpoint": "checkpoint",
    "page_token": "token",
    "next_page_token": "token",
}
LONG = 400


def micros(text):
    """The microseconds since 1970 of a time as RFC 3339 writes it."""
    whole, _, fraction = text[:-1].partition(".")
    moment = datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=timezone.utc)
    return int(moment.timestamp()) * 1_000_000 + int(fraction.ljust(6, "0")[:6])


def millis_in(uuid):
    """The time of a UUIDv7."""
    return int(uuid[:8] + uuid[9:13], 16)


class Placeholders:
    """What stands for what the server made up. All that the caller has said first stays as it is."""

    def __init__(self):
        self.given, self.names, self.counts = set(), {}, {}

    def learn(self, request):
        """Takes note of the ids and times that a caller has chosen."""
        for text in strings_in(request):
            for uuid in UUID.findall(text):
                if ("id", uuid) not in self.names:
                    self.given |= {uuid, millis_in(uuid) * 1000}
            for time in TIME.findall(text):
                if ("time", micros(time)) not in self.names:
                    self.given |= {micros(time), micros(time) // 1000 * 1000}

    def name(self, kind, value):
        """The placeholder for a value: `<id 3>` for the third id that came up."""
        if (kind, value) not in self.names:
            self.counts[kind] = self.counts.get(kind, 0) + 1
            self.names[kind, value] = f"<{kind} {self.counts[kind]}>"
        return self.names[kind, value]

    def id(self, uuid):
        return uuid if uuid in self.given else self.name("id", uuid)

    def time(self, text):
        return text if micros(text) in self.given else self.name("time", micros(text))

    def text(self, text):
        """A text with placeholders in it; of a very long one the beginning, its length and its hash."""
        text = VARIABLE.sub(self.variable, text)
        if len(text) <= LONG:
            return text
        return f"{text[:100]}<{len(text)} characters, {hashlib.sha256(text.encode()).hexdigest()}>"

    def variable(self, match):
        uuid, time, hash_, _ = match.groups()
        if uuid:
            return self.id(uuid)
        if time:
            return self.time(time)
        return self.name("hex", hash_) if hash_ else "<stamp>"

    def said(self, text):
        """The text of an error. A time in it that is not the caller's is the clock's, and says nothing by itself."""
        return self.text(TIME.sub(lambda time: time[0] if micros(time[0]) in self.given else "<clock>", text))

    def value(self, value, key=""):
        """A JSON value with placeholders in it."""
        if isinstance(value, dict):
            return self.message(value)
        if isinstance(value, (list, tuple)):
            return [self.value(each, key) for each in value]
        if not isinstance(value, str):
            return value
        if key in ("said", "violations"):
            return self.said(value)
        return self.name(OPAQUE[key], value) if value and key in OPAQUE else self.text(value)

    def message(self, message):
        event_time = message.get("event_time")
        shown = {key: self.value(message[key], key) for key in sorted(message) if key != "event_time"}
        if event_time:
            shown["event_time"] = self.event_time(event_time, message.get("name", ""))
        return shown

    def event_time(self, time, name):
        """That the time is the one in the id is all that is known of a time of the server's."""
        uuid = name.rpartition("/")[2]
        if micros(time) in self.given or not UUID.fullmatch(uuid):
            return self.time(time)
        assert micros(time) == millis_in(uuid) * 1000, f"{name} has the time {time}"
        return f"<time in {self.id(uuid)}>"


def strings_in(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield from strings_in(key)
            yield from strings_in(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from strings_in(each)


class Transcript:
    """Writes a line for each call."""

    def __init__(self, file):
        self.file, self.placeholders, self.scenario, self.lines = file, Placeholders(), "", 0

    def begin(self, scenario):
        self.scenario, self.placeholders = scenario, Placeholders()

    def call(self, method, caller, request, answer, replies):
        self.placeholders.learn(request)
        line = {"call": method, "claims": [": ".join(claim) for claim in caller.claims], "request": request}
        line.update(code=answer.code, replies=replies)
        if answer.code != "OK":
            line.update(said=answer.text, reason=answer.reason, info=answer.info, violations=answer.violations)
        self.write(line)

    def note(self, what, value):
        """Something that was seen, and is not an answer as such."""
        self.write({"seen": what, "value": value})

    def write(self, line):
        shown = {key: self.placeholders.value(value, key) for key, value in line.items()}
        shown = {"scenario": self.scenario, **shown}
        self.file.write(json.dumps(shown, ensure_ascii=False) + "\n")
        self.lines += 1
