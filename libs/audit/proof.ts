import type { Pool } from 'pg';
import { eventHash, keptStream, microsecondsOf, noHash } from '@app/event-store';
import { leafOf, readAmendment, type AmendmentStatement } from './amendment';
import { inclusionPath, rootOfPath } from './merkle';
import { isSigned, readStatement, type Seal, type Statement, type TrustedKeys } from './seal';
import { changesOf, hashesBefore } from './stored-amendments';

/**
 * Proves that the events of one stream are those that were recorded, and that they existed at the times of the seals.
 * It can be checked with the public key and nothing else of ours. `docs/audit.md` describes the format.
 */
export interface Proof {
  readonly format: 'sendmux-proof/1';
  readonly stream: string;
  /** The events in the order of their versions, from 1. */
  readonly events: readonly ProvenEvent[];
  /** The seals that cover the events, by number. */
  readonly seals: Readonly<Record<string, Seal>>;
  /** The amendments that have changed the events, by number; absent where none has. */
  readonly amendments?: Readonly<Record<string, Seal>>;
  /** The number of the stream's events that no seal covers yet; they are not in the proof. */
  readonly unsealed: number;
}

export interface ProvenEvent {
  readonly position: number;
  readonly version: number;
  readonly type: string;
  readonly schema_version: number;
  /** ISO 8601, UTC, to the microsecond. */
  readonly time: string;
  /** The JSON text that was recorded, since the hash is over the text. */
  readonly data: string;
  /** The JSON text that was recorded. */
  readonly metadata: string;
  readonly hash: string;
  readonly seal: number;
  /** The event's index among the events of the seal, from 0. */
  readonly index: number;
  /** Hashes of the siblings on the path to the root, in hex (RFC 9162 section 2.1.3). */
  readonly path: readonly string[];
  /** What amendments have changed since it was sealed, the newest first; absent for none. */
  readonly amended?: readonly ProvenChange[];
}

/** That an event has another hash since an amendment. */
export interface ProvenChange {
  readonly amendment: number;
  /** The hash from before, in hex. */
  readonly before: string;
  /** The index of the change among those of the amendment, from 0, and its path to the root. */
  readonly index: number;
  readonly path: readonly string[];
}

/**
 * Makes the proof of a stream, whose events may be in archives; undefined when there is no such stream. Making it
 * checks nothing: a proof over changed events fails in `checkProof`.
 *
 * @throws {ArchiveAway} {ArchiveBroken}
 */
export async function prove(pool: Pool, stream: string): Promise<Proof | undefined> {
  const rows = await keptStream(pool, stream);
  if (rows.length === 0) return undefined;
  const seals: Record<string, Seal> = {};
  const events: ProvenEvent[] = [];
  const amendments: Record<string, Seal> = {};
  let covering: { says: Statement; leaves: Buffer; before: Awaited<ReturnType<typeof hashesBefore>> } | undefined;
  for (const { position, version, type, schemaVersion, time, data, metadata, hash } of rows) {
    if (!covering || position > covering.says.upTo) {
      const seal = await sealOver(pool, position);
      if (!seal) break;
      const { statement, signer, signature, leaves, says } = seal;
      seals[says.number] = { statement, signer, signature };
      covering = { says, leaves, before: await hashesBefore(pool, says.number, says) };
    }
    const was = covering.before.get(hash.toString('hex'));
    const index = covering.leaves
      .toString('hex')
      .match(/.{64}/g)!
      .indexOf((was?.before ?? hash).toString('hex'));
    const amended: ProvenChange[] = [];
    for (const { number, before } of was?.changes ?? []) {
      const changes = await changesOf(pool, number);
      const at = changes.findIndex((change) => change.position === position);
      const path = inclusionPath(Buffer.concat(changes.map(leafOf)), at).map((sibling) => sibling.toString('hex'));
      amended.push({ amendment: number, before: before.toString('hex'), index: at, path });
      amendments[number] ??= await amendmentOf(pool, number);
    }
    events.push({
      position,
      version,
      type,
      schema_version: schemaVersion,
      time: time.replace(/(\.\d{3})Z$/, '$1000Z'),
      data,
      metadata,
      hash: hash.toString('hex'),
      seal: covering.says.number,
      index,
      path: index < 0 ? [] : inclusionPath(covering.leaves, index).map((sibling) => sibling.toString('hex')),
      ...(amended.length > 0 && { amended }),
    });
  }
  const isAmended = Object.keys(amendments).length > 0;
  const unsealed = rows.length - events.length;
  return { format: 'sendmux-proof/1', stream, events, seals, ...(isAmended && { amendments }), unsealed };
}

async function amendmentOf(pool: Pool, number: number): Promise<Seal> {
  const { rows } = await pool.query<Seal>(
    'SELECT statement, signer, signature FROM audit_amendments WHERE number = $1',
    [number],
  );
  return rows[0]!;
}

async function sealOver(pool: Pool, position: number) {
  const { rows } = await pool.query<Seal & { leaves: Buffer }>(
    `SELECT statement, signer, signature, leaves FROM audit_seals
     WHERE up_to >= $1 ORDER BY up_to LIMIT 1`,
    [position],
  );
  const says = rows[0] && readStatement(rows[0].statement);
  return rows[0] && says && { ...rows[0], says };
}

/** The facts that a valid proof shows. */
export interface Proven {
  readonly stream: string;
  readonly events: number;
  /** The times of the oldest and of the newest seal over the events, ISO 8601. */
  readonly sealed: readonly [from: string, to: string];
  readonly signers: readonly string[];
  /** How many of the events amendments have changed since. */
  readonly amended: number;
}

/** Thrown when a proof is not valid; the message says why. */
export class ProofRefused extends Error {
  override readonly name = 'ProofRefused';
}

/**
 * Checks a proof. It needs no database, only the proof and the trusted keys.
 *
 * @param given any value that was read from a file.
 * @throws {ProofRefused} naming the first thing that is not right.
 */
export function checkProof(given: unknown, trusted: TrustedKeys): Proven {
  const proof = given as Partial<Proof> | null;
  if (proof?.format !== 'sendmux-proof/1' || !Array.isArray(proof.events) || typeof proof.stream !== 'string')
    throw new ProofRefused('This is no proof in the format sendmux-proof/1.');
  const { stream } = proof;
  const events = proof.events as ProvenEvent[];
  if (events.length === 0) throw new ProofRefused('The proof has no event: none was sealed yet.');
  const seals = new Map<number, Statement>();
  for (const seal of Object.values(proof.seals ?? {})) {
    const says = isSigned(seal, trusted) ? readStatement(seal.statement) : undefined;
    if (!says) throw new ProofRefused(`A seal is not signed by ${[...trusted.keys()].join(' or ')}.`);
    seals.set(says.number, says);
  }
  const amendments = new Map<number, AmendmentStatement>();
  for (const amendment of Object.values(proof.amendments ?? {})) {
    const says = isSigned(amendment, trusted) ? readAmendment(amendment.statement) : undefined;
    if (!says) throw new ProofRefused(`An amendment is not signed by ${[...trusted.keys()].join(' or ')}.`);
    amendments.set(says.number, says);
  }
  let previous: Buffer = noHash;
  let position = 0;
  for (const [i, event] of events.entries()) {
    const name = `${stream}/${i + 1}`;
    const refuse = (why: string) => new ProofRefused(`${name} ${why}.`);
    if (event.version !== i + 1) throw refuse('is missing, or not in its place');
    if (!(event.position > position)) throw refuse('comes before the event that it follows');
    const { data, metadata, type } = event;
    const hash = hashOf(() =>
      eventHash({
        position: event.position,
        previous,
        stream,
        version: event.version,
        type,
        data,
        metadata,
        schemaVersion: event.schema_version,
        microseconds: microsecondsOf(event.time),
      }),
    );
    if (!hash || hash.toString('hex') !== event.hash || !timeForm.test(event.time))
      throw refuse('is not what its hash says');
    const says = seals.get(event.seal);
    if (!says || event.position <= says.after || event.position > says.upTo) throw refuse('is covered by no seal');
    const octets = (siblings: readonly string[]) => siblings.map((sibling) => Buffer.from(sibling, 'hex'));
    let sealed = hash;
    for (const { amendment, before, index, path } of event.amended ?? []) {
      const amends = amendments.get(amendment);
      const was = Buffer.from(before, 'hex');
      const change = leafOf({ position: event.position, before: was, after: sealed });
      const root = amends && amends.seals >= event.seal && rootOfPath(change, index, amends.events, octets(path));
      if (!root || root.toString('hex') !== amends.root) throw refuse(`was not changed by amendment ${amendment}`);
      sealed = was;
    }
    if (rootOfPath(sealed, event.index, says.events, octets(event.path))?.toString('hex') !== says.root)
      throw refuse(`is not among the events of seal ${event.seal}`);
    [previous, position] = [hash, event.position];
  }
  const times = events.map(({ seal }) => seals.get(seal)!.time).sort();
  const signers = [...new Set(Object.values(proof.seals as Record<string, Seal>).map(({ signer }) => signer))];
  const amended = events.filter((event) => event.amended).length;
  return { stream, events: events.length, sealed: [times[0]!, times.at(-1)!], signers, amended };
}

/** Gives undefined when hashing throws, since an event whose numbers are out of range cannot be ours. */
function hashOf(hash: () => Buffer): Buffer | undefined {
  try {
    return hash();
  } catch {
    return undefined;
  }
}

const timeForm = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/;
