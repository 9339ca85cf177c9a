// Package cli is what all commands of sluice share: exit codes and errors, help,
// environment variables of flags, completion, the version, and texts for people.
//
// It knows no command.
package cli
