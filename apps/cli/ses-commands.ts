import { Accounts } from '@app/accounts';
import { Logger } from '@nestjs/common';
import { openPool } from '@app/database';
import { EventStore, LostHistory } from '@app/event-store';
import { domainEvent, evolve, initialState, isLive, type MailDomain } from '@app/mail-domain';
import { parseDomainName } from '@app/mail-records';
import { defaultShard, loadSettings, sesShards, shardSettings } from '@app/runtime';
import { adoptedTag, SesShards, SharedTurns, type Call, type SesIdentity } from '@app/ses';
import { SesWriter } from '@app/ses-writer';
import type { Command } from 'commander';
import type { Pool } from 'pg';
import { examples, print } from './output';
import { interruption } from './interruption';
import { Progress, stoppable } from './progress';
import { IdentityRequests, type IdentityOutcome, type Wanted } from './ses-identity-requests';
import { Moves, type MoveOutcome } from './ses-moves';
import { addShardCommands } from './ses-shards';
import { UsedWrongly } from './used-wrongly';
import { databaseUrl, withPool } from './with-pool';

/**
 * Whose an identity is: `live`, a domain that is not gone; `ended`, one that is; `lost`, one of a history that a
 * restore of the log has ended; `adopted`; or `nobody`, without our tag.
 */
type Holder = 'live' | 'ended' | 'lost' | 'adopted' | 'nobody';

/** The option of commands about one identity. */
interface OfShard {
  readonly shard?: string;
}

interface MoveOptions {
  readonly from?: string;
  readonly to?: string;
  readonly cancel?: boolean;
}

/** An identity with what can change it. */
interface Found {
  readonly identity: SesIdentity;
  readonly holder: Holder;
  readonly shard: string;
  readonly writer: SesWriter;
  /** How the command calls SES. */
  readonly call: Call;
}

/** Adds `sendmux ses …`: what an operator does with identities of SES that have the name of a customer's domain. */
export function addSesCommands(ses: Command): void {
  addShardCommands(ses);
  const domain = ['<domain>', 'name of the identity, such as mail.acme.com'] as const;
  const shard = ['--shard <name>', 'shard that has it; where absent, all are asked'] as const;

  ses
    .command('show')
    .description('whose the identity is, and what can be done')
    .argument(...domain)
    .option(...shard)
    .addHelpText('after', examples('sendmux ses show mail.acme.com'))
    .action((name: string, options: OfShard, command: Command) =>
      withIdentity(name, options, ({ identity, holder, shard }) => {
        const { domainId, status, tokens, mailFrom, configurationSet } = identity;
        const easyDkim = tokens.length === 3;
        const shown = { name: identity.name, holder, domainId, status, easyDkim, mailFrom, configurationSet, shard };
        print(command, shown, () => [
          `${identity.name} in the shard ${shard}: DKIM ${status}, ${shown.easyDkim ? 'Easy DKIM' : 'no Easy DKIM'}`,
          mailFrom ? `MAIL FROM ${mailFrom.domain}: ${mailFrom.status}` : 'no MAIL FROM domain',
          ...(configurationSet ? [`configuration set ${configurationSet}`] : []),
          whatCanBeDone(identity, holder),
        ]);
      }),
    );
  ses
    .command('adopt')
    .description('tags an identity, so that the domain that has its name, or gets it, takes it for its own')
    .argument(...domain)
    .option(...shard)
    .option('--account <number>', 'number of the AWS account, where the credentials do not name it')
    .addHelpText('after', examples('sendmux ses adopt mail.acme.com --account 123456789012'))
    .action((name: string, options: OfShard & { account?: string }, command: Command) =>
      withIdentity(name, options, async ({ identity, holder, writer, call }) => {
        if (holder === 'live') throw new Error(whatCanBeDone(identity, holder));
        if (identity.tokens.length !== 3)
          throw new Error(`${identity.name} has no Easy DKIM, which every domain here needs. Release it instead.`);
        const account = options.account ?? (await writer.account());
        if (!account || !/^\d{12}$/.test(account))
          throw new UsedWrongly('Give the twelve digits of the AWS account with --account.');
        if (holder !== 'adopted' && !(await writer.adopt(identity.name, account, call)))
          throw new Error(`SES has no identity ${identity.name} in account ${account}.`);
        print(command, { name: identity.name, holder: 'adopted' }, () => [
          `${identity.name} is adopted: its customer can add the domain now, and its DKIM records stay as they are.`,
        ]);
      }),
    );
  ses
    .command('release')
    .description('deletes an identity from SES, so that the domain can be added with one of its own')
    .argument(...domain)
    .option(...shard)
    .option('--yes', 'delete it: what is sent with it is no longer signed, and SES refuses to send it')
    .addHelpText('after', examples('sendmux ses release mail.acme.com --yes'))
    .action((name: string, { yes, ...options }: OfShard & { yes?: boolean }, command: Command) =>
      withIdentity(name, options, async ({ identity, holder, writer, call }) => {
        if (holder === 'live') throw new Error(whatCanBeDone(identity, holder));
        if (!yes) throw new UsedWrongly(`This deletes ${identity.name} from SES for good. Say so with --yes.`);
        await writer.delete(identity.name, call);
        print(command, { name: identity.name, released: true }, () => [
          `SES no longer has ${identity.name}: its customer can add the domain, and gets new DKIM records.`,
        ]);
      }),
    );
  ses
    .command('move')
    .description('moves a domain, or all of a shard, to another shard of SES; its owners get further DKIM records')
    .argument('[domain]', 'name of the domain')
    .option('--from <shard>', 'every domain of this shard, one after the other; it goes on where it was stopped')
    .option('--to <shard>', 'shard that is to have it; one that takes domains where absent')
    .option('--cancel', 'ends a move whose new records SES has not seen')
    .addHelpText(
      'after',
      examples(
        'sendmux ses move mail.acme.com --to us-1',
        'sendmux ses move mail.acme.com --cancel',
        'sendmux ses move --from us-1',
      ),
    )
    .action((name: string | undefined, options: MoveOptions, command: Command) => {
      const { from, to, cancel } = options;
      if ((name === undefined) === (from === undefined)) throw new UsedWrongly('Give a domain, or --from.');
      if (cancel && (name === undefined || to !== undefined))
        throw new UsedWrongly('Give --cancel with a domain alone.');
      Logger.overrideLogger(false);
      return withPool(async (pool) => {
        const moves = new Moves(pool);
        if (name === undefined) return moveAll(moves, from!, to, command);
        const domain = parseDomainName(name).name;
        const outcome = cancel ? await moves.cancel(domain) : await moves.one(domain, to);
        print(command, outcome, () => told(outcome));
        if (outcome.step === 'failed') throw new Error(`${outcome.name} was not moved: ${outcome.reason}.`);
      });
    });
  ses
    .command('mail-from')
    .description('has provisioning give SES the MAIL FROM domain of a domain, such as bounce.mail.acme.com')
    .argument('[domain]', 'name of the domain; where SES has given up on its MAIL FROM records, it looks for them anew')
    .option('--all', 'every domain that has none yet, one after the other; it goes on where it was stopped')
    .addHelpText('after', examples('sendmux ses mail-from mail.acme.com', 'sendmux ses mail-from --all'))
    .action((name: string | undefined, { all = false }: { all?: boolean }, command: Command) => {
      return request(mailFrom, name, all, command, ({ name, value }) => ({ name, mailFromDomain: value }));
    });
  ses
    .command('tenant')
    .description('has provisioning associate a domain with the tenant of its team, where its shard has tenants')
    .argument('[domain]', 'name of the domain')
    .option('--all', 'every domain that has none yet, one after the other; it goes on where it was stopped')
    .addHelpText('after', examples('sendmux ses tenant mail.acme.com', 'sendmux ses tenant --all'))
    .action((name: string | undefined, { all = false }: { all?: boolean }, command: Command) =>
      request(tenant(), name, all, command, ({ name, value }) => ({ name, tenant: value })),
    );
  ses
    .command('remove-tenant')
    .description('deletes the tenants of a team that is deleted, with what SES knows of its reputation')
    .argument('<team>', 'id of the team')
    .addHelpText('after', examples('sendmux ses remove-tenant team_4kz81mq0xw'))
    .action((team: string, _options: object, command: Command) =>
      withWriters(async ({ shards, pool, call }) => {
        const deleted = await new Accounts(pool).deletedTeams();
        if (!deleted.some(({ id }) => id === team))
          throw new UsedWrongly(
            `${team} is not deleted, and its mail names its tenant: \`sendmux team delete\` first.`,
          );
        const removed: string[] = [];
        for (const shard of shards.names()) if (await shards.of(shard).deleteTenant(team, call)) removed.push(shard);
        print(command, { team, shards: removed }, () => [
          removed.length > 0
            ? `${list(removed)} no longer has the tenant ${team}.`
            : `No shard has the tenant ${team}.`,
        ]);
      }),
    );
}

const mailFrom: Wanted = {
  fault: 'no_mail_from',
  called: 'MAIL FROM domain',
  of: ({ mailFromDomain }) => mailFromDomain,
  isFor: () => true,
};

/** Gives what asks for tenants, for the domains of the shards that have them. */
function tenant(): Wanted {
  const settings = loadSettings(process.env, shardSettings);
  const having = sesShards(settings).filter(({ tenantConfigurationSet }) => tenantConfigurationSet !== undefined);
  if (having.length === 0)
    throw new UsedWrongly('No shard of SES_SHARDS has tenants: docs/operations/shards.md says how to have them.');
  const names = having.map(({ name }) => name);
  return {
    fault: 'no_tenant',
    called: 'tenant',
    of: ({ sesTenant }) => sesTenant,
    isFor: ({ sesShard = defaultShard }) => names.includes(sesShard),
  };
}

/** Asks for what identities are to have, of one domain or of all, and says what became of each. */
function request(
  wanted: Wanted,
  name: string | undefined,
  all: boolean,
  command: Command,
  shown: (outcome: IdentityOutcome) => object,
): Promise<void> {
  if (all === (name !== undefined)) throw new UsedWrongly('Give a domain, or --all.');
  Logger.overrideLogger(false);
  return withPool(async (pool) => {
    const requests = new IdentityRequests(pool, wanted);
    const outcomes: IdentityOutcome[] = [];
    if (name === undefined) for await (const each of requests.all()) outcomes.push(each);
    else outcomes.push(await requests.one(parseDomainName(name).name));
    const failed = outcomes.filter(({ value }) => value === null);
    print(command, outcomes.map(shown), () => [
      ...outcomes.map(({ name, value }) => `${name}: ${value ?? 'failed'}`),
      `${outcomes.length - failed.length} set, ${failed.length} failed`,
    ]);
    if (failed.length > 0)
      throw new Error(`SES could not be given ${failed.length} of them: \`sendmux ses show\` says what it has.`);
  });
}

function told({ name, from, to, step, records }: MoveOutcome): string[] {
  switch (step) {
    case 'prepared':
      return [
        `${name} moves from ${from} to ${to} once SES has seen these records, of which its owners are told:`,
        ...records.map((record) => `  ${record.name} CNAME ${record.value}`),
      ];
    case 'moved':
      return [`${name} has moved from ${from} to ${to}; ${from} loses it when the time of SES_MOVE_GRACE is over.`];
    case 'completed':
      return [`${name} has moved from ${from} to ${to}.`];
    case 'cancelled':
    case 'failed':
      return [`${name} stays in ${from}.`];
    case 'gone':
      return [`${name} was deleted meanwhile.`];
  }
}

async function moveAll(moves: Moves, from: string, to: string | undefined, command: Command): Promise<void> {
  const interrupted = interruption();
  const outcomes: MoveOutcome[] = [];
  const { movable } = await moves.left(from);
  const progress = new Progress({ label: `Moving domains of ${from}`, unit: 'domains', total: movable });
  await stoppable(progress, 'The same command goes on where it was stopped.', async () => {
    for await (const outcome of moves.all(from, to)) {
      outcomes.push(outcome);
      progress.reached(outcomes.length);
      interrupted.throwIfAborted();
    }
  });
  const left = await moves.left(from);
  const failed = outcomes.filter(({ step }) => step === 'failed');
  print(command, { from, outcomes, left }, () => [
    ...failed.map(({ name, reason }) => `${name}: ${reason}`),
    `${outcomes.length - failed.length} begun, ${failed.length} failed; ${left.moving} wait for the records of their owners, ${left.movable} are left`,
  ]);
  if (failed.length > 0) throw new Error(`${failed.length} could not be moved.`);
}

function whatCanBeDone({ name, domainId }: SesIdentity, holder: Holder): string {
  switch (holder) {
    case 'live':
      return `It is that of the domain ${domainId}, and goes when its customer deletes that domain.`;
    case 'ended':
      return `It is that of the domain ${domainId}, which is gone: the next add of ${name} replaces it.`;
    case 'lost':
      return `It is that of the domain ${domainId}, which the log has lost: the next add of ${name} replaces it. \`sendmux ses adopt ${name}\` keeps it, with its keys, for the next add; \`sendmux ses release ${name}\` deletes it.`;
    case 'adopted':
      return `It is adopted: the domain that has its name, or gets it, takes it for its own.`;
    case 'nobody':
      return `It has no tag of ours, so nothing here changes it. \`sendmux ses adopt ${name}\` keeps it, with its keys, for the domain of its name; \`sendmux ses release ${name}\` deletes it.`;
  }
}

/** Milliseconds that a command waits for its turns at SES and for the answers. */
const patienceMs = 60_000;

/** What a command calls SES with. */
interface Writers {
  readonly shards: SesShards<SesWriter>;
  readonly pool: Pool;
  readonly call: Call;
}

/** Runs work with the shards of the settings. An error has the words of SES too. */
async function withWriters(work: (writers: Writers) => Promise<void>): Promise<void> {
  const settings = loadSettings(process.env, [...shardSettings, 'SES_TIMEOUT']);
  const timeoutMs = settings.SES_TIMEOUT;
  const pool = openPool(databaseUrl(), 1);
  const shards = new SesShards(
    sesShards(settings),
    (shard) => new SesWriter({ ...shard, timeoutMs }, new SharedTurns(pool, shard)),
  );
  // Its log goes to standard output, and the error says what SES has said.
  Logger.overrideLogger(false);
  try {
    await work({ shards, pool, call: { priority: 'check', signal: AbortSignal.timeout(patienceMs) } });
  } catch (error) {
    const { message, cause } = error as Error;
    throw cause instanceof Error ? new Error(`${message}: ${cause.message}`, { cause: error }) : error;
  } finally {
    shards.close();
    await pool.end();
  }
}

/** @throws {Error} when no shard has an identity of that name, or several have one and none of them is named. */
async function withIdentity(
  given: string,
  { shard: only }: OfShard,
  work: (found: Found) => void | Promise<void>,
): Promise<void> {
  const { name } = parseDomainName(given);
  await withWriters(async ({ shards, pool, call }) => {
    const asked = only === undefined ? shards.names() : [known(only, shards.names())];
    const identities = await Promise.all(
      asked.map(async (shard) => ({ shard, writer: shards.of(shard), identity: await shards.get(name, call, shard) })),
    );
    const found = identities.flatMap(({ identity, ...at }) => (identity ? [{ ...at, identity }] : []));
    const [first, ...others] = found;
    if (!first) throw new Error(`SES has no identity ${name} in ${list(asked)}.`);
    if (others.length > 0)
      throw new UsedWrongly(`${list(found.map(({ shard }) => shard))} have ${name}: say which with --shard.`);
    await work({ ...first, call, holder: await holderOf(first.identity, pool) });
  });
}

const list = (names: readonly string[]): string => new Intl.ListFormat('en-AU').format(names);

/** @throws {UsedWrongly} naming the shards that there are. */
function known(shard: string, names: readonly string[]): string {
  if (names.includes(shard)) return shard;
  throw new UsedWrongly(`The settings have no shard ${shard}: there is ${list(names)}.`);
}

async function holderOf({ name, domainId }: SesIdentity, pool: Pool): Promise<Holder> {
  if (domainId === null) return 'nobody';
  if (domainId === adoptedTag) return 'adopted';
  const stream = await new EventStore(pool).readStream(domainId);
  const state = stream.map(domainEvent).reduce<MailDomain>(evolve, initialState);
  if (state.status === 'absent' && (await new LostHistory(pool).has(domainId))) return 'lost';
  if (state.status === 'absent')
    throw new Error(
      `${name} has the tag of ${domainId}, which this database does not know: is it another installation's?`,
    );
  return isLive(state) || ['provisioning', 'rolling_back', 'deleting', 'released'].includes(state.status)
    ? 'live'
    : 'ended';
}
