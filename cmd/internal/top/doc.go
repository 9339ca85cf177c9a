// Package top is `sluice top` and `sluice nodes`: what the internal listener of a gateway reports about its
// connections, refreshed on a terminal, otherwise once, and about the nodes that share its channels. top.go has
// the first command and the requests, answer.go the parsing of answers, table.go the text, screen.go the
// terminal, nodes.go the second command.
package top
