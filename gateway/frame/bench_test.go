package frame

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

var benchSizes = []int{16, 64, 125, 1024, 16384}

// benchStream gives a text of about size bytes. Its mask is zero, so that one
// and the same input can be unmasked in place again and again.
func benchStream(size int, p string) []byte {
	b := stream(sent{0x81, strings.Repeat(p, 1+size/len(p))[:size]})
	start := len(b) - size
	ws.Cipher(b[start:], [4]byte(b[start-4:start]), 0)
	clear(b[start-4 : start])
	return b
}

func BenchmarkWhole(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := benchStream(size, "*")
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, ok, err := Whole(p, &roomy); !ok || err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWholeCJK(b *testing.B) {
	p := benchStream(3*341, "界")
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if _, _, ok, err := Whole(p, &roomy); !ok || err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNextWholeFrame(b *testing.B) {
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			p := benchStream(size, "*")
			var s State
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, ok, err := Next(&s, p, &roomy); !ok || err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A text that comes in several reads: how many bytes each has.
func BenchmarkNextInPieces(b *testing.B) {
	for _, text := range []struct{ name, p string }{{"ascii", "*"}, {"cjk", "界"}} {
		for _, piece := range []int{1, 100, 1448} {
			b.Run(fmt.Sprintf("%s/%d", text.name, piece), func(b *testing.B) {
				chunks := slices.Collect(slices.Chunk(benchStream(3*5461, text.p), piece))
				var s State
				b.SetBytes(3 * 5461)
				b.ReportAllocs()
				for b.Loop() {
					for _, c := range chunks {
						if _, _, _, err := Next(&s, c, &roomy); err != nil {
							b.Fatal(err)
						}
					}
				}
			})
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	payload := make([]byte, 64)
	dst := make([]byte, 0, 128)
	b.ReportAllocs()
	for b.Loop() {
		Append(dst, ws.OpText, payload)
	}
}
