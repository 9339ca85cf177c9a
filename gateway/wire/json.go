package wire

import "unicode/utf8"

// AppendString appends text as a JSON string (RFC 8259 section 7): only what must be escaped
// is, and a byte that is not UTF-8 becomes U+FFFD. encoding/json would allocate, and escape
// <, > and & for pages that put JSON into HTML.
func AppendString(dst []byte, text string) []byte {
	if !utf8.ValidString(text) {
		return appendReplaced(dst, text)
	}
	return AppendUTF8(dst, text)
}

// AppendBytes is AppendString for bytes.
func AppendBytes(dst, text []byte) []byte {
	if !utf8.Valid(text) {
		return appendReplaced(dst, text)
	}
	return AppendUTF8(dst, text)
}

// AppendUTF8 is AppendString for text that was checked before. For text beyond ASCII, the
// check takes longer than all else.
func AppendUTF8[T string | []byte](dst []byte, text T) []byte {
	return append(appendEscaped(append(dst, '"'), text), '"')
}

// appendEscaped appends what is between the quotes, for text that is UTF-8. Decoding it here,
// in place of the check before, takes several times as long.
func appendEscaped[T string | []byte](dst []byte, text T) []byte {
	const hex = "0123456789abcdef"
	start := 0
	for i := range len(text) {
		b := text[i]
		if b >= ' ' && b != '"' && b != '\\' {
			continue
		}
		dst = append(dst, text[start:i]...)
		start = i + 1
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[b>>4], hex[b&15])
		}
	}
	return append(dst, text[start:]...)
}

// appendReplaced appends a string of text that is not all UTF-8.
func appendReplaced[T string | []byte](dst []byte, text T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		// A code point has four bytes at most: the conversion stays on the stack.
		r, size := utf8.DecodeRuneInString(string(text[i:min(i+utf8.UTFMax, len(text))]))
		if r == utf8.RuneError && size == 1 {
			dst = append(appendEscaped(dst, text[start:i]), `\ufffd`...)
			start = i + 1
		}
		i += size
	}
	return append(appendEscaped(dst, text[start:]), '"')
}
