"""Events of made-up calls, as an edge sends them, and what a list shows of each call then."""

import datetime
import uuid

JOURNAL = "01a00000-0000-7000-8000-000000000001"
# Long ago, so that they are in nobody's way.
FIRST = datetime.datetime(2025, 3, 1, 8, tzinfo=datetime.timezone.utc)


def text(at):
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


def id_at(at, number):
    """UUIDv7 (RFC 9562, section 5.7): 48 bits of milliseconds, version, variant, the rest."""
    ms = int(at.timestamp() * 1000)
    return str(uuid.UUID(int=(ms << 80) | (7 << 76) | (2 << 62) | number))


def of_calls(count, day=0):
    """Calls of a day, a minute apart, each of five events."""
    return [call(FIRST + datetime.timedelta(days=day, minutes=n), day * 1000 + n) for n in range(count)]


def call(at, number):
    id = id_at(at, number)
    seconds = 20 + number % 30
    common = {"version": 1, "edge": "made-up", "journal": JOURNAL, "epoch": 1, "tenant": "default", "recording": id}

    def event(kind, step, after, **body):
        moment = text(at + datetime.timedelta(seconds=after))
        return {**common, "position": 1 + number * 10 + step, "at": moment, "event": kind, **body}

    caller = {"id": "a", "name": f"Caller {number}", "aor": f"sip:+3861{number:07}@pbx.example.com", "role": "caller"}
    facts = {"participants": [caller], "streams": [{"label": "1", "senders": ["a"]}], "call_ids": [f"ucid-{number}"]}
    return {
        "id": id,
        "from": text(at),
        "to": text(at + datetime.timedelta(seconds=1)),
        "events": [
            event("started", 0, 0, session=id, call_ids=[f"call-{number}@sbc"], flags=[]),
            event("metadata", 1, 0.1, facts=facts, flags=["mixed"], document="<recording/>"),
            event("mark", 2, 5, mark="hold", label=None, begins=True, detail=None),
            event("mark", 3, 9, mark="hold", label=None, begins=False, detail=None),
            event("ended", 4, seconds, reason="bye", duration_ms=seconds * 1000, flags=[]),
        ],
        "shown": {
            "started_at": text(at),
            "duration_ms": seconds * 1000,
            "edge": "made-up",
            "call_ids": sorted([f"call-{number}@sbc", f"ucid-{number}"]),
            "participants": [{"name": f"Caller {number}", "aor": caller["aor"], "role": "caller"}],
            "flags": ["mixed"],
            "marks": [("hold", 5000, 9000)],
        },
    }


def shown(recording):
    """What of a listed recording does not change when nobody ever brings its audio."""
    kept = {k: recording[k] for k in ("started_at", "duration_ms", "edge", "participants", "flags")}
    kept["call_ids"] = sorted(recording["call_ids"])
    kept["marks"] = [(m["kind"], m["from_ms"], m["to_ms"]) for m in recording["marks"]]
    return kept
