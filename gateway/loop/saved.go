package loop

import (
	"encoding/binary"

	"sluice/gateway/channel"
	"sluice/gateway/saved"
)

// A process that hands its connections over to another one saves what protocols keep of them, in
// the form of package saved.

// Saved is what Protocol.Load has read.
type Saved struct {
	Variant    *Variant
	Identity   *Identity // with its State; nil for none
	Identified bool      // Identify is due
	// Formats are those of the connection's subscriptions: in the order of Ref, or of the one that
	// has not begun.
	Formats []channel.Format
}

// AppendIdentity appends who, without its State.
func AppendIdentity(dst []byte, who *Identity) []byte {
	dst = append(dst, who.ID[:]...)
	dst = saved.AppendBytes(saved.AppendBytes(dst, who.User), who.Info)
	return binary.AppendVarint(dst, who.ExpireAt)
}

// ReadIdentity reads what AppendIdentity has written.
func ReadIdentity(r *saved.Reader, who *Identity) {
	copy(who.ID[:], r.Take(uint64(len(who.ID))))
	who.User, who.Info, who.ExpireAt = string(r.Bytes()), r.Bytes(), r.Int()
	if who.User != "" || who.ExpireAt > 0 { // it may have had a token, and by which key is not saved
		who.Key = KeyUnknown
	}
}
