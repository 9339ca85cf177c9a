// Package channel orders the publications of each channel, keeps their history, and
// holds the logs of encoded bytes that a channel's subscribers read at their own pace.
//
// A [Space] is the set of channels of one node. A [Channel] has one order of
// publications and, for each wire [Format] that has subscribers, one [Log]. A
// publication is encoded once for each such format and appended; nothing is queued
// for a single subscriber. A [Reader] is one event loop's view of a log: the loop
// keeps its subscribers' cursors itself, and publishes through the Reader the
// cursor below which all of them have been served.
//
// # Cursors
//
// A cursor is a byte offset in a log, counted from the first byte ever appended; it never
// falls and never wraps in the life of a process. Bytes between the lowest published
// cursor of all readers and the head are kept and do not change, so a loop
// reads them without a lock. Cursors that a reader publishes lie on the end of an
// entry (a frame).
//
// A [Position] is something else: epoch and offset, where a subscriber is in the channel's
// order, whatever the format. Clients know theirs, and come back with it.
//
// # History
//
// A channel keeps its newest publications as they were published, within bounds of
// number, age and bytes ([History]). A subscriber that was away gets them with
// [Reader.Recall], encoded in its format. The last of them comes with the cursor in
// the log where live delivery continues, taken under the same hold of the channel's
// lock. Recall reports a gap if some are no longer kept. A channel without subscribers
// lives as long as its history.
//
// # The publisher's turn
//
// Offsets are part of the encoded bytes. So a channel has one publisher at a time: it takes the
// turn, reads offset and formats under the channel's lock, encodes without it, and takes
// the lock again to append ([Channel.Publish], turn.go). A publisher that finds the turn
// taken waits as for room. However a turn ends, the next publisher is called.
//
// # Push-back
//
// A log is bounded. An append that does not fit is refused with [ErrFull]: the
// publisher's [Waiter] is kept and called once there is room, and the readers
// that hold the log back are pressed: each must serve or drop its subscribers below a
// given cursor. Waiting publishers are called in the order they arrived, as many as
// there is room for; a called publisher publishes or calls [Channel.Forget]
// (waiting.go).
//
// # Given positions
//
// An engine that stores publications somewhere else assigns their positions, and appends them here when
// it has them ([Channel.Append], append.go). Offsets then have holes. Nobody can be pushed back for
// such a publication: up to twice its limit may lie in a log, which is then cut. Subscribers that are
// below the cut catch up from the history ([Reader.Kept]); others do not notice.
//
// The channels of such a space ([Space.Remote], attach.go) open for the first subscriber that
// prepares them ([Space.Prepare]), and end with the last one. Until the engine has reported epoch
// and head a channel is attaching, and nobody reads it. What a subscriber asks for below the head is
// filled in from the engine's history before it joins. Publications that are missing have an entry in
// each log, where they would be; where a format cannot tell it, no subscriber passes it by itself
// (fence.go).
//
// # Concurrency
//
// A channel's short lock guards its order, its appends, and who reads it; nothing is
// encoded for a publication under it. The calls made under it (Subscriber.Notify,
// Waiter.Released) must only post.
// Lock order: a Space's shard, then a channel. A Reader's own methods belong to
// its loop; what crosses is atomic.
//
// The package does no I/O, starts no goroutine and reads no clock. It does not know what
// the bytes mean, who the subscribers are, or what happens to slow ones.
package channel
