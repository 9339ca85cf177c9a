package main

import (
	"github.com/spf13/cobra"

	"sluice/cmd/internal/backend"
	"sluice/cmd/internal/bench"
	"sluice/cmd/internal/cli"
	"sluice/cmd/internal/client"
	"sluice/cmd/internal/doctor"
	"sluice/cmd/internal/migration"
	"sluice/cmd/internal/option"
	"sluice/cmd/internal/serve"
	"sluice/cmd/internal/token"
	"sluice/cmd/internal/top"
)

// firstFlags are the flags to know first.
var firstFlags = cli.Flags("Flags to know first", "listen", "allowed-origins", "config")

// newRootCommand returns `sluice`, which serves when no subcommand is named.
func newRootCommand(env []string) *cobra.Command {
	cfg := new(serve.Settings)
	opts := option.New(cfg)
	root := serve.NewCommand(cfg, opts, env)
	root.Use = "sluice"
	root.Short = "Broadcast server for WebSocket and SSE"
	root.Example = `  sluice                      then open http://127.0.0.1:8000/ in a browser
  sluice sub news             print the messages published to the channel news
  sluice pub news 'goal!'     publish a message to it`
	root.Long = "" // it is in the help of serve
	cli.SetHelp(root, firstFlags)
	root.Version = cli.ReadBuild().Version // adds --version

	gatewayGroup := &cobra.Group{ID: "gateway", Title: "Gateway commands:"}
	clientGroup := &cobra.Group{ID: "client", Title: "Client commands:"}
	root.AddGroup(gatewayGroup, clientGroup)
	addTo := func(group *cobra.Group, commands ...*cobra.Command) {
		for _, cmd := range commands {
			cmd.GroupID = group.ID
			root.AddCommand(cmd)
		}
	}
	addTo(gatewayGroup, serve.NewCommand(cfg, opts, env), doctor.NewCheck(cfg, opts, env),
		doctor.NewConfig(opts, env), doctor.NewHealth(cfg, opts, env), top.NewCommand(cfg, opts, env), top.NewNodesCommand(cfg, opts, env), top.NewReloadCommand(cfg, opts, env), top.NewUpgradeCommand(cfg, opts, env),
		migration.NewCommand(env))
	addTo(clientGroup, client.NewPub(env), client.NewSub(env), token.NewCommand(), backend.NewCommand(), bench.NewCommand(env))
	root.AddCommand(cli.NewCompletion(), cli.NewVersion())
	root.SetHelpCommand(cli.NewHelp())
	root.InitDefaultHelpCmd()
	cli.CompleteNoFiles(root)
	opts.Ignore(cli.Variables(root))
	return root
}
