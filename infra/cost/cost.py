"""What a deployment costs a month, from prices.toml; `--write` puts the table into infra/README.md.

A test compares the committed table with what this computes. What is counted in the templates (keys,
alarms) is counted there; the rest of the load is assumed, and said under the table.
"""

import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
INFRA = HERE.parent
README = INFRA / "README.md"
BEGIN, END = "<!-- cost.py writes from here -->\n", "<!-- to here -->\n"

SUBSCRIBERS = (100, 2_000, 20_000)
HOURS = 730
SECONDS = HOURS * 3600

# ── The load ──────────────────────────────────────────────────────────────────────────────────────
ERLANG = 0.1  # of a subscriber in the busy hour
BUSY_HOURS = 8 * 22  # a month has as many calls as this many busy hours
CALL_MINUTES = 3
KEEP_DAYS = 365
GB_PER_CALL_HOUR = 0.072  # packets of two G.711 streams, with their headers
PLAYABLE = 0.15  # of that size: Opus and the waveform
CALLS_PER_EDGE = 1_000
SEGMENT_SECONDS = 5
BUILD_GB_SECONDS = 12  # a finaliser of 3 GB for 4 s, for a call of 3 minutes
EVENTS_PER_CALL = 5
LOG_KB_PER_CALL = 8
LIVE_PAGES = 0.05  # of subscribers are supervisors with the live page open two hours a day
POLL_SECONDS = 2
PLAYED = 0.02  # of calls


def count(kind, *files):
    return sum(len(re.findall(rf"^    Type: {kind}$", (INFRA / f).read_text(), re.M)) for f in files)


def load(subscribers):
    at_once = subscribers * ERLANG
    call_hours = at_once * BUSY_HOURS
    return at_once, call_hours, call_hours * 60 / CALL_MINUTES


def kept(call_hours):
    """GB by age, in a deployment that has run for KEEP_DAYS: until day 30, 120, and the end."""
    day = call_hours * GB_PER_CALL_HOUR * (1 + PLAYABLE) / 30.4
    return day * min(30, KEEP_DAYS), day * min(90, max(0, KEEP_DAYS - 30)), day * max(0, KEEP_DAYS - 120)


def serverless(p, subscribers):
    at_once, call_hours, calls = load(subscribers)
    edges = 1 + max(1, -(-int(at_once) // CALLS_PER_EDGE))  # one may fail
    young, middle, old = kept(call_hours)
    million = 1e6
    segments = edges * SECONDS / SEGMENT_SECONDS
    read_by_build = calls * CALL_MINUTES * 60 / SEGMENT_SECONDS
    objects = 4  # packets, audio, peaks, manifest
    s3_written = segments + calls * objects
    beats = edges * SECONDS / 5
    # Two pollers' worth of long polls for each of Lambda's five per queue; one of each edge.
    polls = (2 * 5 + edges) * SECONDS / 20
    messages = 3 * (2 * beats + calls * (EVENTS_PER_CALL + 1))  # sent, received, deleted
    live = subscribers * LIVE_PAGES * 22 * 2 * 3600 / POLL_SECONDS
    invoked = 2 * beats + calls * (EVENTS_PER_CALL + 1) + live + HOURS * 61
    busy = 2 * beats * 0.01 + calls * EVENTS_PER_CALL * 0.025 + live * 0.02  # GB-seconds but builds
    kms_keys = count("AWS::KMS::Key", "data.yaml")
    alarms = count("AWS::CloudWatch::Alarm", "app-watch.yaml") + edges * count(
        "AWS::CloudWatch::Alarm", "edge-watch.yaml"
    )
    played = calls * PLAYED * GB_PER_CALL_HOUR * PLAYABLE * CALL_MINUTES / 60
    logs = calls * LOG_KB_PER_CALL / million
    gb, m, month = p["gb_month"], p["million"], p["month"]
    return {
        "instances": edges * HOURS * p["hour"]["c7i.large"],
        "public addresses": edges * HOURS * p["hour"]["public_address"],
        "journal and root disks": edges * 116 * gb["gp3"],
        "audio kept": young * gb["s3_standard"] + middle * gb["s3_infrequent"] + old * gb["s3_glacier_instant"],
        "audio: requests": (
            s3_written * m["s3_put"] + read_by_build * m["s3_get"]
            + calls * 2 * (m["s3_to_infrequent"] + m["s3_to_glacier"])
        ) / million,
        "index": calls * m["index_call"] / million + beats * m["index_beat"] / million
        + calls * 12 * 12629 / 1e9 * (gb["dynamodb"] + gb["dynamodb_restore"]),
        "queues: messages": messages * m["sqs"] / million,
        "queues: polling": polls * m["sqs"] / million,
        "functions": invoked * m["lambda"] / million + (busy + calls * BUILD_GB_SECONDS) * p["gb"]["lambda_second"],
        "KMS": kms_keys * month["kms_key"] + (s3_written + read_by_build) / 100 * m["kms"] / million,
        "API, site, firewall": month["firewall"] + live * (m["http_api"] + m["cdn"] + m["firewall"]) / million,
        "egress": (played + live * 1e-6) * p["gb"]["internet"],
        "logs": logs * (p["gb"]["logs_taken"] + 3 * gb["logs"]),
        "alarms, metrics, dashboard": alarms * month["alarm"] + (edges * 9 + 10) * month["metric"]
        + month["dashboard"] + edges * SECONDS / 60 * m["metric_put"] / million,
        "names, checks, certificates": month["zone"] + edges * (month["health_checks"] + month["certificate"]),
    }


def two_servers(p, subscribers):
    """Two machines that each can take all calls, with every recording on disks of both."""
    at_once, call_hours, calls = load(subscribers)
    kind = "c7i.large" if at_once <= CALLS_PER_EDGE / 2 else "c7i.xlarge"
    audio = max(125, sum(kept(call_hours)))
    gb, month = p["gb_month"], p["month"]
    return {
        "instances": 2 * HOURS * p["hour"][kind],
        "public addresses": 2 * HOURS * p["hour"]["public_address"],
        "journal and root disks": 2 * 116 * gb["gp3"],
        "audio kept": 2 * audio * gb["st1"],
        "index": 2 * calls * 12 * 12629 / 1e9 * gb["gp3"],
        "egress": calls * PLAYED * GB_PER_CALL_HOUR * PLAYABLE * CALL_MINUTES / 60 * p["gb"]["internet"],
        "names, checks, certificates": month["zone"] + 2 * (month["health_checks"] + month["certificate"]),
    }


def table():
    p = tomllib.loads((HERE / "prices.toml").read_text())
    columns = [(serverless(p, n), two_servers(p, n)) for n in SUBSCRIBERS]
    loads = [load(n) for n in SUBSCRIBERS]
    head = [f"{n:,} subscribers | two servers" for n in SUBSCRIBERS]
    lines = [f"| US$ a month, {p['region']}, {p['taken']} | " + " | ".join(head) + " |"]
    lines.append("| --- |" + " ---: |" * (2 * len(SUBSCRIBERS)))
    lines.append("| calls at once | " + " | ".join(f"{a:,.0f} | {a:,.0f}" for a, _, _ in loads) + " |")
    lines.append("| calls a month | " + " | ".join(f"{c:,.0f} | {c:,.0f}" for _, _, c in loads) + " |")
    for item in columns[0][0]:
        cells = [f"{one[item]:,.2f}" if item in one else "–" for pair in columns for one in pair]
        lines.append(f"| {item} | " + " | ".join(cells) + " |")
    sums = [f"**{sum(one.values()):,.0f}**" for pair in columns for one in pair]
    lines.append("| **all** | " + " | ".join(sums) + " |")
    return "\n".join(lines) + "\n"


def committed():
    return README.read_text().split(BEGIN)[1].split(END)[0]


if __name__ == "__main__":
    if "--write" in sys.argv:
        before, rest = README.read_text().split(BEGIN)
        README.write_text(before + BEGIN + table() + END + rest.split(END)[1])
    else:
        print(table(), end="")
