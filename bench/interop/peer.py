"""Clients in Python, for python_test.go: each prints what it receives, a JSON string in each line.

    peer.py websockets URL    package websockets (Debian: python3-websockets)
    peer.py zlib URL          WebSocket by hand: zlib inflates each message by itself
    peer.py gzip URL          an event stream, decoded by zlib as it arrives
"""

import asyncio
import base64
import json
import os
import socket
import struct
import sys
import urllib.parse
import zlib


def tell(text):
    print(json.dumps(text), flush=True)


async def with_websockets(url):
    import websockets

    async with websockets.connect(url) as ws:
        if not ws.extensions:
            sys.exit("no extension was negotiated")
        await ws.send("hello " * 50)  # compressed, with a context that was agreed not to be kept
        await ws.send("hello " * 50)
        async for message in ws:
            tell(message)


def connect(url, fields):
    at = urllib.parse.urlsplit(url)
    s = socket.create_connection((at.hostname, at.port))
    path = at.path + ("?" + at.query if at.query else "")
    s.sendall(f"GET {path} HTTP/1.1\r\nHost: {at.netloc}\r\n{fields}\r\n".encode())
    stream = s.makefile("rb")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += stream.read(1)
    return s, stream, head.decode()


def with_zlib(url):
    key = base64.b64encode(os.urandom(16)).decode()
    s, stream, head = connect(url, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                              f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Extensions: permessage-deflate\r\n")
    if "permessage-deflate" not in head:
        sys.exit("no extension was negotiated")
    for _ in range(2):
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        payload = (deflate.compress(b"hello " * 50) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]
        s.sendall(bytes([0xC1, 0x80 | len(payload), 0, 0, 0, 0]) + payload)
    while True:
        first, length = stream.read(2)
        if length == 126:
            (length,) = struct.unpack(">H", stream.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", stream.read(8))
        payload = stream.read(length)
        if first & 0x0F == 8:
            return
        if first & 0x0F == 9:
            s.sendall(b"\x8a\x80\0\0\0\0")
        elif first & 0x0F < 8:
            if first & 0x40:
                payload = zlib.decompressobj(-15).decompress(payload + b"\0\0\xff\xff")
            tell(payload.decode())


def with_gzip(url):
    _, stream, head = connect(url, "Accept: text/event-stream\r\nAccept-Encoding: gzip\r\n")
    if "Content-Encoding: gzip" not in head:
        sys.exit("no encoding was negotiated")
    gunzip, text = zlib.decompressobj(31), b""
    while chunk := stream.read1():
        text += gunzip.decompress(chunk)
        *lines, text = text.split(b"\n")
        for line in lines:
            if line.startswith(b"data: "):
                tell(line[6:].decode())


kind, url = sys.argv[1:]
if kind == "websockets":
    asyncio.run(with_websockets(url))
else:
    {"zlib": with_zlib, "gzip": with_gzip}[kind](url)
