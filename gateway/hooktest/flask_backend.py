# The backend in Flask: see doc.go. It prints its port, and ends when its standard input does.

import json
import logging
import os
import sys
import threading
import time

from flask import Flask, Response, jsonify, redirect, request
from werkzeug.serving import make_server

app = Flask(__name__)
logging.getLogger("werkzeug").setLevel(logging.ERROR)  # no line for each request
asked = []
lock = threading.Lock()

COMMON = {"client": str, "transport": str, "protocol": str, "encoding": str}
FIELDS = {  # what an event has to have, and can have
    "connect": ({}, {"name": str, "version": str, "channels": list, "data": object, "b64data": str}),
    "refresh": ({"user": str}, {"meta": dict}),
    "subscribe": ({"user": str, "channel": str}, {"meta": dict, "data": object, "b64data": str}),
    "sub_refresh": ({"user": str, "channel": str}, {"meta": dict}),
    "publish": ({"user": str, "channel": str}, {"meta": dict, "data": object, "b64data": str}),
    "rpc": ({"user": str}, {"method": str, "meta": dict, "data": object, "b64data": str}),
}


def note(line):
    with lock:
        asked.append(line)


@app.get("/asked")
def take():
    with lock:
        lines = asked[:]
        asked.clear()
    return jsonify(lines)


def malformed(event, q):
    must, may = FIELDS[event]
    must = {**COMMON, **must}
    for name in must:
        if name not in q:
            return f"{name} is missing"
    for name, value in q.items():
        kind = must.get(name) or may.get(name)
        if kind is None:
            return f"{name} is unknown"
        if not isinstance(value, kind):
            return f"{name} is a {type(value).__name__}"
    return None


def line(event, q):
    words = [event, f"{q['transport']}/{q['protocol']}/{q['encoding']}"]
    if session := request.cookies.get("session"):
        words.append(f"session={session}")
    words += [f"{name}={q[name]}" for name in ("user", "channel", "method") if name in q]
    if "channels" in q:
        words.append("channels=" + ",".join(q["channels"]))
    if "meta" in q:
        words.append(f"tenant={q['meta']['tenant']}")
    if "data" in q:
        words.append("data=" + json.dumps(q["data"], separators=(",", ":"), ensure_ascii=False))
    elif "b64data" in q:
        words.append("b64data=" + q["b64data"])
    return " ".join(words)


def behind(text, separator):
    return text.rpartition(separator)[2] if separator in text else ""


def later(text):
    return behind(text, "@").partition("-")[0]


def answered(event, result, word):
    match word:
        case "error":
            return jsonify(error={"code": 403, "message": "not you"})
        case "unauthorized":
            return jsonify(error={"code": 401, "message": "who are you?"})
        case "later":
            return jsonify(error={"code": 1000, "message": "try later", "temporary": True})
        case "disconnect":
            return jsonify(disconnect={"code": 4501, "reason": "banned"})
        case "reconnect":
            return jsonify(disconnect={"code": 4001, "reason": "move"})
        case "all":
            return jsonify(result=result, error={"code": 403, "message": "not you"}, disconnect={"code": 4501, "reason": "banned"})
        case "both":
            return jsonify(result=result, error={"code": 403, "message": "not you"})
        case "empty":
            return jsonify({})
        case "null":
            return jsonify(result=None)
        case "nothing":
            return jsonify(result={})
        case "nulls":
            names = ("user", "expire_at", "info", "b64info", "data", "b64data", "channels", "subs", "meta", "override", "tags")
            return jsonify(error=None, disconnect=None, result=dict.fromkeys(names))
        case "created":
            return jsonify(result=result), 201
        case "none":
            return "", 204
        case "redirect":
            return redirect(f"/{event}", code=307)
        case "fails":
            raise RuntimeError("the application has failed")
        case "busy":
            return "slow down", 429
        case "broken":
            return Response('{"result":', mimetype="application/json")
        case "text":
            return "OK"
        case "number":
            return jsonify(result={"user": 7, "expire_at": time.time() + 60, "tags": 1, "data": 1, "b64data": 1})
        case "expired":
            return jsonify(result={"expired": True})
        case "hangs":
            time.sleep(600)
    if word == "past":
        result["expire_at"] = int(time.time()) - 60
    if word.startswith("+"):
        result["expire_at"] = int(time.time()) + int(word[1:])
    return jsonify(result=result)


def hook(event):
    def decorate(decide):
        def view():
            q = request.get_json()
            if fault := malformed(event, q):
                note(f"malformed: {event}: {fault}")
                return fault, 500
            note(line(event, q))
            return answered(event, *decide(q))
        app.add_url_rule(f"/{event}", event, view, methods=["POST"])
        return decide
    return decorate


@hook("connect")
def connect(q):
    user = request.cookies.get("session", "")
    return {"user": user, "info": {"name": user}, "meta": {"tenant": 4}}, behind(user, "-")


@hook("refresh")
def refresh(q):
    return {}, later(q["user"])


@hook("subscribe")
def subscribe(q):
    return {"info": {"at": q["channel"]}, "data": {"topic": q["channel"]}}, behind(q["channel"], "-")


@hook("sub_refresh")
def sub_refresh(q):
    return {}, later(q["channel"])


@hook("publish")
def publish(q):
    text = q.get("data")
    word = behind(text, "-") if isinstance(text, str) else ""
    if word == "change":
        return {"data": "changed", "tags": {"by": "hook"}}, word
    return {}, word


@hook("rpc")
def rpc(q):
    method = q.get("method", "")
    if "b64data" in q:
        return {"b64data": q["b64data"]}, behind(method, "-")
    return {"data": {"method": method, "user": q["user"], "data": q.get("data")}}, behind(method, "-")


def main():
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.port, flush=True)
    sys.stdin.read()
    os._exit(0)  # threads that hang do not end


main()
