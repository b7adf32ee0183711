import { Logger } from '@nestjs/common';
import { keyFiles, SealingKey } from '@app/audit';
import { parseAddress } from '@app/mailbox';
import { mailboxKeyRing, MailboxKeys, resealMailboxKeys } from '@app/mailbox-keys';
import { loadSettings } from '@app/runtime';
import type { Command } from 'commander';
import { Erasure, type Left } from './erasure';
import { interruption } from './interruption';
import { encryptLog } from './log-encryption';
import { examples, print } from './output';
import { Progress, stoppable } from './progress';
import { UsedWrongly } from './used-wrongly';
import { withPool } from './with-pool';

/** Adds `sendmux erase …`. */
export function addEraseCommands(erase: Command): void {
  addMailbox(erase);
  addTeam(erase);
  addMigrateLog(erase);
  addReseal(erase);
}

const filesOption = [
  '--files <file...>',
  'files that are searched too, besides the archives of the log: exports, logs',
] as const;

interface MailboxOptions {
  readonly delete?: boolean;
  readonly yes?: boolean;
  readonly files?: readonly string[];
}

function addMailbox(erase: Command): void {
  erase
    .command('mailbox')
    .description(
      'what is personal about a mailbox, for good: in the log, the tables and the mail server; and proves it',
    )
    .argument('<mailbox>', 'its id, or the address: then of all mailboxes that have it or had it')
    .option('--delete', 'delete it first, where it is there: it takes no mail from then on')
    .option('--yes', 'erase it: nothing brings the address back')
    .option(...filesOption)
    .addHelpText(
      'after',
      `${examples(
        'sendmux erase mailbox ada@mail.acme.com --yes',
        'sendmux erase mailbox mbx_cl0mvxo5a1k9w3x7q2z8c4v6b1n --delete --yes',
        'sendmux erase mailbox ada@mail.acme.com --yes --files events.ndjson.gz /var/log/sendmux/*.log',
      )}

A kill at any point is safe: the same command goes on. Afterwards every table and archive is searched for the address, in clear and
in every encoding; exit status 1 when something still has it.`,
    )
    .action(async (wanted: string, options: MailboxOptions, command: Command) => {
      const { delete: isDeleting = false, yes, files = [] } = options;
      if (!yes) throw new UsedWrongly(`This erases ${wanted} for good. Say so with --yes.`);
      const address = wanted.includes('@') ? parseAddress(wanted).address : undefined;
      await erasing(async (erasure) => {
        const ids = address === undefined ? [wanted] : await erasure.withAddress(address);
        const known = await erasure.erase(ids, isDeleting);
        const addresses = address === undefined ? known : [address];
        const left = await erasure.search(addresses, files);
        print(command, { mailboxes: ids, searched: addresses.length > 0, left }, () => [
          ...(ids.length === 0 ? ['No mailbox has this address, or had it and is not erased yet.'] : []),
          ...ids.map((id) => `${id} is erased.`),
          ...(addresses.length > 0
            ? linesOf(left)
            : [
                'It was erased before, and nobody knows its address any more: name the address to have it searched for.',
              ]),
        ]);
        refuse(left);
      });
    });
}

function addTeam(erase: Command): void {
  erase
    .command('team')
    .description('what is personal about a team that is deleted, for good, with all of its mailboxes; and proves it')
    .argument('<team>', 'its id, as `sendmux team list --deleted` shows it')
    .option('--yes', 'erase it: nothing brings it back')
    .option(...filesOption)
    .addHelpText(
      'after',
      `${examples('sendmux erase team team_4kz81mq0xw --yes')}

A kill at any point is safe: the same command goes on. It searches for the addresses of the mailboxes that this run has
erased; exit status 1 when something still has one.`,
    )
    .action(async (team: string, { yes, files = [] }: Omit<MailboxOptions, 'delete'>, command: Command) => {
      if (!yes) throw new UsedWrongly(`This erases ${team} for good. Say so with --yes.`);
      await erasing(async (erasure) => {
        const { ids, addresses } = await erasure.eraseTeam(team);
        const left = await erasure.search(addresses, files);
        print(command, { team, mailboxes: ids, searched: addresses.length, left }, () => [
          `${team} is erased, with ${ids.length} of its mailboxes; ${addresses.length} addresses were searched for.`,
          ...linesOf(left),
        ]);
        refuse(left);
      });
    });
}

const linesOf = (left: readonly Left[]): string[] =>
  left.length === 0
    ? ['No table and no archive of the log has the address any more, in any encoding.']
    : left.map(({ place, count, hint }) => `LEFT  ${place}: ${count}${hint === undefined ? '' : `; ${hint}`}`);

/** @throws {Error} where something is left. */
function refuse(left: readonly Left[]): void {
  if (left.length > 0)
    throw new Error(
      `The address is still in ${left.map(({ place }) => place).join(', ')}. See to it, and run this again.`,
    );
}

/** Runs `work` on the installation that the settings name. Statements have no time limit. */
async function erasing<T>(work: (erasure: Erasure) => Promise<T>): Promise<T> {
  // The handler of commands tells what it does, and standard output is for the result.
  Logger.overrideLogger(false);
  const settings = loadSettings(process.env, [
    'PERSONAL_DATA_KEYS',
    'MAIL_SERVER_DATABASE_URL',
    'MAIL_SERVER_DATABASE_DIRECT_URL',
  ]);
  const keyRing = mailboxKeyRing(settings.PERSONAL_DATA_KEYS);
  const mailServerUrl = settings.MAIL_SERVER_DATABASE_DIRECT_URL ?? settings.MAIL_SERVER_DATABASE_URL;
  return withPool((pool) => work(new Erasure({ pool, mailServerUrl, keyRing })), 2, 0);
}

function addMigrateLog(erase: Command): void {
  erase
    .command('migrate-log')
    .description('encrypts the addresses and display names that earlier releases have recorded in clear')
    .addHelpText(
      'after',
      `${examples('sendmux erase migrate-log')}

Everything goes on meanwhile; appends wait for some milliseconds now and then. Each change is signed with the key of the
sealer (AUDIT_SIGNING_KEY_FILE), so that \`sendmux audit verify\` knows it. A kill at any point is safe: the same command goes on.`,
    )
    .action(async (_options: object, command: Command) => {
      const settings = loadSettings(process.env, ['PERSONAL_DATA_KEYS', 'AUDIT_SIGNING_KEY_FILE', 'SENDMUX_DATA_DIR']);
      const keyRing = mailboxKeyRing(settings.PERSONAL_DATA_KEYS);
      const key = SealingKey.read(settings.AUDIT_SIGNING_KEY_FILE ?? keyFiles(settings.SENDMUX_DATA_DIR).signing);
      const signal = interruption();
      const progress = new Progress({ label: 'Encrypting', unit: 'mailboxes' });
      const done = await stoppable(progress, 'Stopped; the same command goes on.', () =>
        withPool(
          (pool) =>
            encryptLog(pool, new MailboxKeys(pool, keyRing), key, {
              signal,
              reached: (mailboxes) => progress.reached(mailboxes),
            }),
          2,
          0,
        ),
      );
      print(command, done, () => [
        done.encrypted === 0
          ? 'Nothing in the log is in clear.'
          : `${done.encrypted} events of ${done.mailboxes} mailboxes are encrypted; ${done.rehashed} have another hash.`,
      ]);
    });
}

function addReseal(erase: Command): void {
  erase
    .command('reseal')
    .description('encrypts the keys of all mailboxes with the first key of PERSONAL_DATA_KEYS; safe to repeat')
    .addHelpText(
      'after',
      `${examples('PERSONAL_DATA_KEYS=2027=…,2026=… sendmux erase reseal')}

Exit status: 1 when a key cannot be read; the others are resealed.`,
    )
    .action(async (_options: object, command: Command) => {
      const ring = mailboxKeyRing(loadSettings(process.env, ['PERSONAL_DATA_KEYS']).PERSONAL_DATA_KEYS);
      const { resealed, unreadable } = await withPool((pool) => resealMailboxKeys(pool, ring));
      print(command, { key: ring.newest, resealed, unreadable }, () => [
        `${resealed} ${resealed === 1 ? 'key is' : 'keys are'} encrypted anew, with "${ring.newest}".`,
        ...unreadable.map(({ why }) => `BAD  ${why}`),
      ]);
      if (unreadable.length > 0)
        throw new Error(
          `${unreadable.length} of the keys cannot be read: keep all keys of the ring, and look into it.`,
        );
    });
}
