package event

import "encoding/json"

// Event is something that has happened, as a receiver sees it. Its JSON has the fields of the
// events of Centrifugo PRO ("time_ms", "channel", "type"), and more.
type Event struct {
	Time    int64  `json:"time_ms"` // in milliseconds since 1970
	Channel string `json:"channel,omitzero"`
	Type    Type   `json:"type"`

	// ID is the same each time the event is sent.
	ID string `json:"id"`
	// Seq counts the events of an epoch of a partition, from 1 on and without holes.
	Seq       uint64 `json:"seq"`
	Partition int    `json:"partition"`
	// Epoch compares as a string: a later one is greater.
	Epoch string `json:"epoch"`
	Node  string `json:"node"` // that sends it
	// Scope is "node" if Occupied and Vacated are about the subscribers of that node alone.
	Scope string `json:"scope,omitzero"`

	// Of events about a client.
	Client    string `json:"client,omitzero"`
	User      string `json:"user,omitzero"`
	Transport string `json:"transport,omitzero"`
	Code      uint32 `json:"code,omitzero"` // of Disconnected and Unsubscribed
	Reason    string `json:"reason,omitzero"`

	// Of Publication. Data that is not JSON is in Bytes, and what is larger than DataMax is in
	// neither.
	Data         json.RawMessage `json:"data,omitzero"`
	Bytes        []byte          `json:"b64data,omitzero"`
	Size         int             `json:"size,omitzero"` // of data that is left out
	Offset       uint64          `json:"offset,omitzero"`
	HistoryEpoch string          `json:"history_epoch,omitzero"` // with Offset, the position in the channel's history

	// Dropped is, of Resync and Reset, how many events were dropped.
	Dropped uint64 `json:"dropped,omitzero"`
	// Occupied is, of Resync, whether the channel is occupied; nil where this is not known here.
	Occupied *bool `json:"occupied,omitzero"`

	// Partitions is, of Digest and Reset, how many partitions there are.
	Partitions int `json:"partitions,omitzero"`
	// Page is, of Digest, the number of the page, from 1 on, of Pages. Nothing of the partition is
	// sent between the pages of a digest, which is the truth at the place of its first page.
	Page     int      `json:"page,omitzero"`
	Pages    int      `json:"pages,omitzero"`
	Channels []string `json:"channels,omitzero"`
	// Count is, of Reset, how many Occupied follow at once.
	Count int `json:"count,omitzero"`
}

const (
	// Partitions is how many parts the channels are divided into. Events of one partition are sent
	// in their order, and those of different ones at the same time. It is the same on all nodes.
	Partitions = 64
	// DataMax is the size up to which the data of a publication is part of its event.
	DataMax = 64 << 10
	// PageMax is how many channels a page of a digest has at most.
	PageMax = 500
)
