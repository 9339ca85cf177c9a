// Package deflate compresses publications once for all subscribers that have negotiated compression, and
// inflates what clients send.
//
// # Shared, without a window
//
// A compressor with its window costs a megabyte. So there is none for each connection: a compressed format
// ([Format]) wraps a plain one, is shared by its subscribers as any other, and a publication is compressed
// while it is encoded, in its publisher's turn. Each publication is compressed by itself and refers to nothing
// before it, so a subscriber may begin with any of them. The process has a few compressors ([Compressors]). A
// publisher takes one for a publication and never waits for one: if all are at work, the publication goes out
// uncompressed.
//
// # WebSocket
//
// A frame with RSV1 has a deflate stream without the four bytes 00 00 ff ff at its end (RFC 7692 section
// 7.2.1). Compression is a property of each message, so a publication that is small, or does not shrink, stays
// a plain frame, and so does all that a connection is sent by itself.
//
// # Event streams (SSE)
//
// The response is one gzip member without an end: [GzipHeader], then deflate blocks. A publication's blocks
// end with a sync marker, at a byte boundary, so that blocks made for everyone follow blocks made for one
// connection. What is small, does not shrink or is the connection's own is stored ([Seal]): ten bytes more,
// and no compressor. There is no trailer: a stream ends with its connection, and readers that verify a
// checksum fail on a wrong one, but accept a missing one.
//
// # Inbound
//
// An [Inflater] inflates a message as a whole, up to a limit. A loop has one, not each connection.
//
// The package is one of its own because wire's encodings know no compressor, and channel knows no bytes of
// formats. It knows no connection and does no I/O.
package deflate
