package namespace

import "strings"

// nearest returns the name that key most likely misspells: one that differs from it in at
// most a quarter of key's bytes, and one more.
func nearest(key string, names []string) (string, bool) {
	if len(key) > shownMax { // longer than any name, and distance takes time
		return "", false
	}
	best, least := "", 1+len(key)/4+1
	for _, name := range names {
		if d := distance(strings.ToLower(key), name); d < least {
			best, least = name, d
		}
	}
	return best, best != ""
}

// distance returns the number of bytes to insert, remove or change to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1) // of a[:i] to each b[:j]
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0] // of a[:i] to b[:j]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
