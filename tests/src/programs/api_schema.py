"""Holds every answer of the agent's API against its OpenAPI page.

Arguments: the agent's URL and a server name that it knows. Prints what differs, and what of the page was not
tried; nothing where all is well.
"""

import contextlib
import gzip
import json
import sys
import urllib.error
import urllib.parse
import urllib.request

import jsonschema
import yaml

BASE, SERVER_NAME = sys.argv[1:3]
SSE = "text/event-stream"


def ask(path):
    """Status, type and body; compressed, as browsers ask for it."""
    request = urllib.request.Request(BASE + path, headers={"Accept-Encoding": "gzip"})
    try:
        answer = urllib.request.urlopen(request, timeout=20)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        body = answer.read()
        if answer.headers["Content-Encoding"] == "gzip":
            body = gzip.decompress(body)
        return answer.status, answer.headers.get_content_type(), body.decode()


PAGE = yaml.safe_load(ask("/api/v1/openapi.yaml")[2])
name = urllib.parse.quote(SERVER_NAME)
TRIED = {
    "/api/v1/overview": [""],
    "/api/v1/names": [""],
    "/api/v1/name": [
        f"?server_name={name}",
        f"?server_name={name}&role=server",
        f"?server_name={name}&role=observer",
        "?server_name=nobody.example",
        "",
    ],
    "/api/v1/keys": [""],
    "/api/v1/findings": [""],
    "/api/v1/observations": [""],
    "/api/v1/lifetimes": ["", "?lifetime=3600", "?lifetime=-1", "?lifetime=NaN", "?lifetime=day"],
    "/api/v1/quota": [""],
    "/api/v1/openapi.yaml": [""],
    "/api/v1/events": [""],
}
# Asked of an agent that wants a password, elsewhere.
ELSEWHERE = {"401"}


def problems_of(schema, body):
    whole = {"components": PAGE["components"], **schema}
    validator = jsonschema.Draft202012Validator(whole)
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(body)]


def problems_of_events(body):
    kinds = set()
    for event in body.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in event.splitlines() if ": " in line)
        kind, data = fields.get("event"), fields.get("data", "")
        if kind is None:
            continue
        kinds.add(kind)
        if kind == "overview":
            yield from problems_of({"$ref": "#/components/schemas/Overview"}, json.loads(data))
        elif kind == "handshake" and "resumption" not in json.loads(data):
            yield "a record without resumption"
        elif kind == "skipped" and not data.isdigit():
            yield f"{data} is no number"
    if not {"overview", "handshake"} <= kinds:
        yield f"only {kinds}"


def problems():
    declared = set()
    for path, operations in PAGE["paths"].items():
        responses = operations["get"]["responses"]
        declared |= {(path, status) for status in responses if status not in ELSEWHERE}
    seen = set()
    for path, queries in TRIED.items():
        for query in queries:
            status, kind, body = ask(path + query)
            seen.add((path, str(status)))
            response = PAGE["paths"][path]["get"]["responses"].get(str(status))
            if response is None:
                yield f"{path}{query}: {status} is not on the page"
                continue
            media = response["content"].get(kind)
            if media is None:
                yield f"{path}{query}: {kind} is not on the page"
            elif kind == "application/json":
                for problem in problems_of(media["schema"], json.loads(body)):
                    yield f"{path}{query}: {problem}"
            elif kind == SSE:
                for problem in problems_of_events(body):
                    yield f"{path}{query}: {problem}"
    with contextlib.ExitStack() as followers:
        for _ in range(8):
            follower = urllib.request.urlopen(BASE + "/api/v1/events", timeout=20)
            followers.enter_context(contextlib.closing(follower))
        seen.add(("/api/v1/events", str(ask("/api/v1/events")[0])))
    for path, status in sorted(declared - seen):
        yield f"{path}: {status} was not seen"


if __name__ == "__main__":
    for problem in problems():
        print(problem)
