package handshake

import (
	"errors"
	"unicode"
	"unicode/utf8"
)

// ChannelNameBytesMax is the maximum length of a channel name in bytes.
const ChannelNameBytesMax = 255

var (
	errNameEmpty   = errors.New("the channel name is empty")
	errNameLength  = errors.New("the channel name is longer than 255 bytes")
	errNameUTF8    = errors.New("the channel name is not UTF-8")
	errNameControl = errors.New("the channel name contains a control character")
	errNameSpace   = errors.New("the channel name contains white space")
)

// ChannelName returns an error unless s is a valid channel name: 1 to 255 bytes of UTF-8
// without control characters or white space. The error is a fixed sentence that does not quote
// the name.
func ChannelName(s string) error {
	switch {
	case s == "":
		return errNameEmpty
	case len(s) > ChannelNameBytesMax:
		return errNameLength
	case !utf8.ValidString(s):
		return errNameUTF8
	}
	for _, r := range s {
		switch {
		case unicode.IsSpace(r):
			return errNameSpace
		case unicode.IsControl(r):
			return errNameControl
		}
	}
	return nil
}
