package setting

import "strings"

// nearestMax bounds the words that Nearest compares. No name is longer, and comparing takes time.
const nearestMax = 64

// Nearest returns the known name that word most likely misspells, or "".
func Nearest(word string, known []string) string {
	if len(word) > nearestMax {
		return ""
	}
	word = strings.ToLower(word)
	best, least := "", max(2, len(word)/4)+1
	for _, name := range known {
		if d := distance(word, strings.ToLower(name)); d < least {
			best, least = name, d
		}
	}
	return best
}

// distance returns the Levenshtein distance: how many bytes must be inserted, deleted or
// replaced to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			d := diagonal
			if a[i] != b[j] {
				d = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], d
		}
	}
	return row[len(b)]
}
