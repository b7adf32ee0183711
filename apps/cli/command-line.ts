import { Command } from 'commander';
import { addDoctor } from './doctor/doctor-command';
import { addMigrate } from './migrate-command';
import { addReconcile } from './reconcile/reconcile-command';
import { addRestore } from './restore/restore-command';

/** A group of commands: what it is for, and how its commands are added to it. */
interface Group {
  readonly description: string;
  readonly load: () => Promise<(group: Command) => void>;
}

const groups: Record<string, Group> = {
  team: {
    description: 'teams and the owners who are told when a domain stays broken',
    load: async () => (await import('./team-commands.js')).addTeamCommands,
  },
  owner: {
    description: 'owners of a team, who accept before they are one',
    load: async () => (await import('./owner-commands.js')).addOwnerCommands,
  },
  key: {
    description: 'API keys of a team',
    load: async () => (await import('./key-commands.js')).addKeyCommands,
  },
  webhooks: {
    description: 'endpoints of teams, and the keys that encrypt their secrets',
    load: async () => (await import('./webhook-commands.js')).addWebhookCommands,
  },
  parked: {
    description:
      'messages that a consumer could not handle, and events that Kafka refuses: look at them, mend the cause, redrive them',
    load: async () => (await import('./parked-commands.js')).addParkedCommands,
  },
  ses: {
    description: 'shards of Amazon SES, and identities that were there before a customer added the domain',
    load: async () => (await import('./ses-commands.js')).addSesCommands,
  },
  events: {
    description: 'the log of all events: to others once more, and to a file and back',
    load: async () => (await import('./event-commands.js')).addEventCommands,
  },
  'domain-connect': {
    description: 'the key that signs links to DNS providers, and the template that they accept',
    load: async () => (await import('./connect-commands.js')).addConnectCommands,
  },
  erase: {
    description: 'what is personal about people, for good; and the keys under which it is encrypted until then',
    load: async () => (await import('./erase-commands.js')).addEraseCommands,
  },
  audit: {
    description: 'whether the log is what was recorded, and proofs of it for others',
    load: async () => (await import('./audit-commands.js')).addAuditCommands,
  },
  projections: {
    description: 'read models: compare them with the log, and make them anew from it, while everything runs',
    load: async () => (await import('./projection-commands.js')).addProjectionCommands,
  },
};

/** Gives the group that the arguments name; undefined for other commands and options. */
function groupOf(args: readonly string[]): string | undefined {
  const [first, second] = args.filter((each) => !each.startsWith('-'));
  return first === 'help' ? second : first;
}

/**
 * Builds the command line of `sendmux`. Results go to standard output, explanations and errors to standard error. Only
 * the group that the arguments name has its commands, since loading those of all takes longer than most commands.
 */
export async function commandLine(args: readonly string[]): Promise<Command> {
  const program = new Command('sendmux')
    .description(
      'Teams, their owners, API keys and webhooks; messages that no consumer could handle; identities of SES; the log: its audit, and read models made anew from it.',
    )
    .option('--json', 'print one JSON document, for scripts; errors too')
    // `main.ts` prints all errors, in one form.
    .configureOutput({ outputError: () => undefined })
    .configureHelp({ showGlobalOptions: true })
    .exitOverride()
    .addHelpText(
      'after',
      `
Begin with:
  $ sendmux team create Acme --owner ada@acme.com
  $ sendmux key create --team team_4kz81mq0xw --role root:full

\`sendmux help COMMAND\` and \`sendmux COMMAND help SUBCOMMAND\` show more, with examples.
The database is the one of \`make start\`, or of DATABASE_URL when that is set. \`sendmux doctor\` looks whether all is
well.
Exit status: 0 done, 1 refused or failed, 2 used wrongly, 3 settings or database are not in order, 130 interrupted.`,
    );

  for (const [name, { description, load }] of Object.entries(groups)) {
    const group = program.command(name).description(description);
    if (name === groupOf(args)) (await load())(group);
  }

  addDoctor(program);
  addRestore(program);
  addReconcile(program);
  addMigrate(program);
  return program;
}
