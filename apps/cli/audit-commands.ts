import { existsSync, readFileSync } from 'node:fs';
import {
  checkProof,
  isSigned,
  keyFiles,
  prove,
  readStatement,
  readTrustedKeys,
  storedSeals,
  Verification,
  type Seal,
  type TrustedKeys,
  type Verified,
} from '@app/audit';
import { eventId, EventStore } from '@app/event-store';
import { actorOf, domainEvent, evolve, initialState, sentenceOf } from '@app/mail-domain';
import { DomainsReadModel } from '@app/read-model';
import { loadSettings, parseDuration } from '@app/runtime';
import type { Command } from 'commander';
import { interruption } from './interruption';
import { examples, minute, print, printJson, printLines, say, table } from './output';
import { Progress } from './progress';
import { UsedWrongly } from './used-wrongly';
import { withLog, withPool } from './with-pool';

const keysOption = [
  '--keys <file>',
  'public keys whose signatures count, in PEM; those of AUDIT_PUBLIC_KEYS_FILE, or of the data directory, when absent',
] as const;

/** Adds `sendmux audit …`. */
export function addAuditCommands(audit: Command): void {
  audit
    .command('verify')
    .description(
      'reads the whole log: finds what was changed, removed, inserted or moved, and names the first bad place',
    )
    .option(...keysOption)
    .option('--grace <duration>', 'how long an event may stay without a seal', '1h')
    .option('--witness <file>', 'seals that were kept elsewhere, one a line: of the topic, or the log of the sealer')
    .addHelpText(
      'after',
      `${examples(
        'sendmux audit verify',
        'sendmux audit verify --keys /etc/sendmux/audit-public.pem --witness seals.ndjson --json',
      )}

Exit status: 0 nothing is wrong, 1 something is.`,
    )
    .action(async ({ keys, witness, grace }: { keys?: string; witness?: string; grace: string }, command: Command) => {
      const graceMs = parseDuration(grace);
      if (graceMs === undefined) throw new UsedWrongly(`--grace ${grace} is no duration, such as 10m or 1h.`);
      const trusted = trustedKeys(keys);
      const seen = witness === undefined ? [] : readSeals(witness, trusted);
      const signal = interruption();
      const verified = await withLog(async (pool, log) => {
        const progress = new Progress({ label: 'Verifying', total: await log.head(), unit: 'positions' });
        const verification = new Verification(pool, log, {
          trusted,
          witness: seen,
          signal,
          sealedBefore: new Date(Date.now() - graceMs),
          reached: (position) => progress.reached(position),
        });
        return verification.run().then(
          (found) => (progress.finish(), found),
          (error: Error) => {
            progress.abandon();
            throw error;
          },
        );
      });
      print(command, verified, () => [
        ...verified.faults.map(({ message }) => `BAD  ${message}`),
        ...summary(verified),
      ]);
      if (verified.faultCount > 0)
        throw new Error(
          `The log is not what was recorded: ${verified.faultCount === 1 ? '1 place is' : `${verified.faultCount} places are`} bad. The first: ${verified.faults[0]!.message}.`,
        );
    });
  audit
    .command('history')
    .description('what happened to a domain, the oldest first: when, who, and by which request')
    .argument('<id>', 'id of the domain, also of one that is deleted; its name finds the newest of that name')
    .addHelpText('after', examples('sendmux audit history mail.acme.com', 'sendmux audit history mail.acme.com --json'))
    .action(async (idOrName: string, _options: object, command: Command) => {
      const events = await withPool(async (pool) => {
        const id = await new DomainsReadModel(pool).newestIdOf(idOrName);
        return new EventStore(pool).readStream(id ?? idOrName);
      });
      if (events.length === 0 || !events[0]!.stream.startsWith('mdom_'))
        throw new Error(`No domain ${idOrName} was ever added. \`sendmux audit history\` takes an id or a name.`);
      let state = initialState;
      const entries = events.map((recorded) => {
        const event = domainEvent(recorded);
        const sentence = sentenceOf(event, state);
        state = evolve(state, event);
        return { id: eventId(recorded), sentence, ...recorded };
      });
      print(command, entries, () =>
        entries.flatMap(({ version, time, sentence, metadata: { actor, requestId } }) => [
          `${String(version).padStart(3)}  ${time}  ${sentence}`,
          `     ${actorOf(actor).words}${requestId === undefined ? '' : `, request ${requestId}`}`,
        ]),
      );
    });
  audit
    .command('seals')
    .description('the seals, the oldest first; with --json one a line, to be kept elsewhere as a witness')
    .addHelpText('after', examples('sendmux audit seals', 'sendmux audit seals --json >seals.ndjson'))
    .action(async (_options: object, command: Command) => {
      const seals = await withPool((pool) => storedSeals(pool));
      const { json } = command.optsWithGlobals<{ json?: boolean }>();
      if (json) return seals.forEach((seal) => printJson(seal));
      printLines(
        seals.length === 0
          ? ['Nothing is sealed yet: does the sealer run?']
          : table(
              ['SEAL', 'SEALED', 'EVENTS', 'UP TO', 'SIGNER', 'ROOT'],
              seals.map(({ statement, signer }) => {
                const says = readStatement(statement);
                if (!says) return ['?', '', '', '', signer, 'not a statement'];
                const { number, time, events, upTo, root } = says;
                return [String(number), minute(new Date(time)), String(events), String(upTo), signer, root];
              }),
            ),
      );
    });
  audit
    .command('prove')
    .description('a proof of the whole history of one domain or mailbox, for somebody who does not trust this database')
    .argument('<id>', 'id of the domain or mailbox; also of one that is deleted')
    .addHelpText('after', examples('sendmux audit prove mdom_clmib3zq8a0w9x7f1k2s5d4g6h0j >proof.json'))
    .action(async (id: string) => {
      const proof = await withPool((pool) => prove(pool, id));
      if (!proof) throw new Error(`There is no stream ${id}. Domains begin with mdom_, mailboxes with mbx_.`);
      if (proof.events.length === 0)
        throw new Error(`No event of ${id} is sealed yet. Does the sealer run? It seals every AUDIT_SEAL_INTERVAL.`);
      printJson(proof, 1);
      if (proof.unsealed > 0) say(`${proof.unsealed} events are not sealed yet, and not in the proof.`);
    });
  audit
    .command('check')
    .description('checks a proof; needs no database')
    .argument('<file>', 'the proof, as `sendmux audit prove` wrote it')
    .option(...keysOption)
    .addHelpText('after', examples('sendmux audit check proof.json --keys audit-public.pem'))
    .action((file: string, { keys }: { keys?: string }, command: Command) => {
      const proven = checkProof(jsonOf(file), trustedKeys(keys));
      print(command, proven, () => [
        `${proven.stream}: ${proven.events} events are those that were recorded, in their order, with none missing between them.`,
        `Sealed from ${proven.sealed[0]} to ${proven.sealed[1]}, signed by ${proven.signers.join(', ')}.`,
        ...(proven.amended > 0
          ? [`${proven.amended} of them have changed since, as signed amendments say: personal data encrypted.`]
          : []),
      ]);
    });
}

function summary(verified: Verified): string[] {
  const { events, seals, newest, unsealed, amendments, amended, restorations, replaced, faultCount } = verified;
  const count = (number: number, one: string) => `${number.toLocaleString('en')} ${one}${number === 1 ? '' : 's'}`;
  const covered = newest
    ? `${count(seals, 'seal')}, the newest of ${minute(new Date(newest.time))} up to position ${newest.upTo}`
    : 'no seal: whoever can write to the database could have written all of it anew';
  return [
    `${count(events, 'event')}, ${covered}.`,
    ...(amendments > 0
      ? [
          `${count(amended, 'event')} of these changed by ${count(amendments, 'signed amendment')}: personal data encrypted.`,
        ]
      : []),
    ...restorations.map(
      ({ time, after, seals: stands }) =>
        `Restored at ${minute(new Date(time))} to a moment after seal ${stands}, by a signed statement; what was recorded after position ${after} and before that is void.`,
    ),
    ...(replaced > 0 ? [`${count(replaced, 'seal')} of the witness replaced by that.`] : []),
    ...(unsealed > 0 && newest ? [`${count(unsealed, 'event')} after it: hashed and linked, not sealed yet.`] : []),
    ...(faultCount === 0 ? ['Nothing is wrong.'] : []),
  ];
}

/** Reads the keys whose signatures count: of the file that is given, or that the settings name. */
export function trustedKeys(given?: string): TrustedKeys {
  const settings = loadSettings(process.env, ['AUDIT_PUBLIC_KEYS_FILE', 'SENDMUX_DATA_DIR']);
  const file = given ?? settings.AUDIT_PUBLIC_KEYS_FILE ?? keyFiles(settings.SENDMUX_DATA_DIR).trusted;
  if (!existsSync(file))
    throw new UsedWrongly(
      `No key is trusted: there is no ${file}. Name the public key of the sealer by --keys or AUDIT_PUBLIC_KEYS_FILE.`,
    );
  return readTrustedKeys(file);
}

/**
 * Reads the seals of a file: records of the topic, the output of `sendmux audit seals --json`, or the sealer's log.
 * Lines without a seal are skipped.
 */
function readSeals(file: string, trusted: TrustedKeys): Seal[] {
  const seals = read(file)
    .split('\n')
    .flatMap((line) => {
      if (!line.includes('sendmux-seal/')) return [];
      const found = parsed(line) as (Partial<Seal> & { seal?: Partial<Seal> }) | undefined;
      const { statement, signer, signature } = found?.seal ?? found ?? {};
      return typeof statement === 'string' && typeof signer === 'string' && typeof signature === 'string'
        ? [{ statement, signer, signature }]
        : [];
    });
  if (seals.length === 0) throw new UsedWrongly(`There is no seal in ${file}.`);
  const strange = seals.filter((seal) => !isSigned(seal, trusted)).length;
  if (strange > 0)
    throw new UsedWrongly(
      `${strange} of the ${seals.length} seals in ${file} are not signed by a key that is trusted here.`,
    );
  return seals;
}

function jsonOf(file: string): unknown {
  const found = parsed(read(file));
  if (found === undefined) throw new UsedWrongly(`${file} is not JSON.`);
  return found;
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    throw new UsedWrongly(`${file} cannot be read: ${(error as Error).message}`);
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
