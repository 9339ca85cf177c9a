package cli

import "strings"

// EnvPrefix begins the names of all environment variables.
const EnvPrefix = "SLUICE_"

// EnvName returns the environment variable of a flag.
func EnvName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// LookUpEnv returns the value of a variable in an environment, or "".
func LookUpEnv(env []string, name string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}
