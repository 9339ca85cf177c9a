// Package top is `sluice top`: what the internal listener of a gateway reports about its
// connections, refreshed on a terminal, otherwise once. top.go has the command and the
// requests, answer.go the parsing of answers, table.go the text, screen.go the terminal.
package top
