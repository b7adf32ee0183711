import { setTimeout as sleep } from 'node:timers/promises';
import { holdSeals, KeyUnusable, newestSeal, recordAmendment, type SealingKey } from '@app/audit';
import { inTransaction, isLockTimeout } from '@app/database';
import { ChainBroken, replaceData, streamsWithVersion, type Replaceable } from '@app/event-store';
import { isUnencrypted, mailboxEvent, mailboxSchemaVersions, personalTypes, storedData, type Seal } from '@app/mailbox';
import type { MailboxKeys } from '@app/mailbox-keys';
import { alignParkedEvents } from '@app/messaging';
import type { Pool } from 'pg';

/** Streams in one transaction, for which appends wait. */
const streamsAtOnce = 50;
/** Streams that are looked at at once. */
const pageSize = 500;
/** Milliseconds for which a lock is waited for, so that appends do not queue behind the request for long. */
const lockWithinMs = 100;
const retryMs = 500;

/** What the encryption of a log has done. */
export interface EncryptedLog {
  /** Mailboxes whose events it has changed. */
  readonly mailboxes: number;
  /** Events whose data are encrypted now. */
  readonly encrypted: number;
  /** Events with another hash: those, and all that follow them in their streams. */
  readonly rehashed: number;
}

export interface EncryptOptions {
  /** Ends it between two transactions. */
  readonly signal?: AbortSignal;
  /** Milliseconds to wait for others that hold the table, before it gives up; 60,000 when absent. */
  readonly patienceMs?: number;
  /** Told of the mailboxes that were looked at. */
  readonly reached?: (mailboxes: number) => void;
}

/**
 * Encrypts the personal data that earlier releases have recorded in clear. It goes stream by stream, a few in each
 * transaction, with a signed amendment of what was changed, so a run that was killed goes on with what is left.
 *
 * @throws {KeyUnusable} for another key than that of the newest seal: whoever verifies would not trust the amendments.
 * @throws {ChainBroken} at the end, where streams are not what was appended: they stay as they are.
 * @throws {Error} when others hold the table for too long.
 */
export async function encryptLog(
  pool: Pool,
  keys: MailboxKeys,
  key: SealingKey,
  { signal, patienceMs = 60_000, reached }: EncryptOptions = {},
): Promise<EncryptedLog> {
  await assertSealer(pool, key);
  const done = { mailboxes: 0, encrypted: 0, rehashed: 0 };
  const broken: string[] = [];
  const encrypt = async (streams: readonly string[]): Promise<void> => {
    try {
      const changed = await patiently(() => encryptStreams(pool, keys, key, streams), patienceMs, signal);
      done.mailboxes += streams.length;
      done.encrypted += changed.encrypted;
      done.rehashed += changed.rehashed;
    } catch (error) {
      if (!(error instanceof ChainBroken)) throw error;
      if (streams.length === 1) broken.push(error.message);
      else for (const stream of streams) await encrypt([stream]);
    }
  };
  let looked = 0;
  for (let after = ''; ;) {
    const page = await inTransaction(pool, (client) =>
      streamsWithVersion(client, { prefix: 'mbx_', after, types: personalTypes, schemaVersion: 1, limit: pageSize }),
    );
    const streams = page.filter(({ hasVersion }) => hasVersion).map(({ stream }) => stream);
    for (let at = 0; at < streams.length; at += streamsAtOnce) {
      signal?.throwIfAborted();
      await encrypt(streams.slice(at, at + streamsAtOnce));
    }
    reached?.((looked += page.length));
    if (page.length < pageSize) break;
    after = page.at(-1)!.stream;
  }
  // Also those that an earlier run has encrypted: the topic still has them in clear, and they may be parked late.
  await alignParkedEvents(pool, personalTypes);
  if (broken.length > 0)
    throw new ChainBroken(
      `${broken.length} mailboxes stay in clear, since somebody has changed their events: ${broken.slice(0, 3).join('; ')}. All others are encrypted. Run \`sendmux audit verify\``,
    );
  return done;
}

/** @throws {KeyUnusable} for another key than that of the newest seal, which no verification would trust. */
export async function assertSealer(pool: Pool, key: SealingKey): Promise<void> {
  const newest = await newestSeal(pool);
  if (newest && newest.signer !== key.id)
    throw new KeyUnusable(
      `The newest seal is signed by the key ${newest.signer}, and this one is ${key.id}. Run it with the key of the sealer.`,
    );
}

/** Runs `work`, which waits for no lock for long, again and again until it has had its locks. */
async function patiently<T>(work: () => Promise<T>, patienceMs: number, signal?: AbortSignal): Promise<T> {
  for (const deadline = Date.now() + patienceMs; ; await sleep(retryMs)) {
    signal?.throwIfAborted();
    try {
      return await work();
    } catch (error) {
      if (!isLockTimeout(error)) throw error;
      if (Date.now() >= deadline)
        throw new Error(
          'Others hold the table events without a pause: `sendmux events partition`, or a vacuum. What is encrypted stays so; the same command goes on.',
          { cause: error },
        );
    }
  }
}

async function encryptStreams(pool: Pool, keys: MailboxKeys, key: SealingKey, streams: readonly string[]) {
  // Before the transaction, since a key has to be there before what it encrypts, and appends wait for the latter.
  const seals = new Map<string, Seal>();
  for (const stream of streams) seals.set(stream, await keys.sealerFor(stream));
  return inTransaction(pool, async (client) => {
    await holdSeals(client);
    await client.query(`SET LOCAL lock_timeout = ${lockWithinMs}`);
    const changed = await replaceData(client, streams, (event) =>
      isUnencrypted(event) ? encrypted(event, seals.get(event.stream)!) : undefined,
    );
    if (changed.length > 0) await recordAmendment(client, key, 'personal-data-encrypted', changed);
    return { encrypted: changed.filter(({ isReplaced }) => isReplaced).length, rehashed: changed.length };
  });
}

/** Gives the data of an event of schema version 1 as this release would have recorded them. */
function encrypted({ stream, type, schemaVersion, data }: Replaceable, seal: Seal) {
  const recorded = { stream, type, schemaVersion, time: '', data: JSON.parse(data) as unknown };
  const event = mailboxEvent(recorded, () => undefined);
  return { schemaVersion: mailboxSchemaVersions[event.type], data: JSON.stringify(storedData(event, seal)) };
}
