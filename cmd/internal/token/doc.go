// Package token is `sluice token`, and reads the key files of tokens for other commands.
package token
