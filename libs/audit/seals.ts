import type { Pool } from 'pg';
import { inTransaction, type Connection } from '@app/database';
import { chainedSql, eventHashSql, noHash, readEpochs, type EventLog } from '@app/event-store';
import { merkleRoot } from './merkle';
import { hashOfStatement, nothingBefore, readStatement, type Seal, type SealingKey } from './seal';
import { sealingLock } from './sealing-lock';

/** Thrown when an event does not have its own hash, or does not follow the one before it. Nothing is sealed over it. */
export class LogBroken extends Error {
  override readonly name = 'LogBroken';
  constructor(
    /** `stream/version` */
    readonly event: string,
    readonly position: number,
    readonly fault: 'content' | 'link',
  ) {
    super(
      `${event} (position ${position}) ${fault === 'content' ? 'is not what its hash says' : 'does not name the hash of the event before it in its stream'}: the log is not sealed any further. Run \`sendmux audit verify\``,
    );
  }
}

interface Leaf {
  readonly event: string;
  readonly position: number;
  readonly hash: Buffer;
  readonly isTrue: boolean;
  readonly isLinked: boolean;
}

/** Makes the seals of a log, each over the events since the seal before it. */
export class Seals {
  /**
   * @param most events in one seal.
   * @param clock milliseconds since the epoch.
   */
  constructor(
    private readonly pool: Pool,
    private readonly log: Pick<EventLog, 'head'>,
    private readonly key: SealingKey,
    private readonly most = 10_000,
    private readonly clock = Date.now,
  ) {}

  /**
   * Seals the settled events that have no seal yet, after checking each event's hash and link.
   *
   * @returns the new seals, the oldest first; none when there is no new event, or another sealer holds the lock.
   * @throws {LogBroken}
   */
  async seal(): Promise<Seal[]> {
    const seals: Seal[] = [];
    for (;;) {
      const head = await this.log.head();
      const made = await inTransaction(this.pool, (client) => this.sealNext(client, head));
      if (!made) return seals;
      seals.push(made);
    }
  }

  private async sealNext(client: Connection, head: number): Promise<Seal | undefined> {
    const { rows: locks } = await client.query<{ mine: boolean }>('SELECT pg_try_advisory_xact_lock($1) AS mine', [
      sealingLock,
    ]);
    if (!locks[0]!.mine) return undefined;
    const { rows: last } = await client.query<{ statement: string }>(
      'SELECT statement FROM audit_seals ORDER BY number DESC LIMIT 1',
    );
    const before = last[0] && readStatement(last[0].statement);
    if (last[0] && !before) throw new Error('The newest seal cannot be read. Run `sendmux audit verify`');
    const after = before?.upTo ?? 0;
    const leaves = await this.leaves(client, after, head);
    if (leaves.length === 0) return undefined;
    for (const { event, position, isTrue, isLinked } of leaves)
      if (!isTrue || !isLinked) throw new LogBroken(event, position, isTrue ? 'link' : 'content');
    const hashes = Buffer.concat(leaves.map(({ hash }) => hash));
    const epoch = (await readEpochs(client)).at(-1)!;
    const seal = this.key.seal({
      log: before?.log ?? epoch.log,
      epoch: epoch.number,
      number: (before?.number ?? 0) + 1,
      previous: last[0] ? hashOfStatement(last[0].statement) : nothingBefore,
      events: leaves.length,
      after,
      upTo: leaves.at(-1)!.position,
      root: merkleRoot(hashes).toString('hex'),
      time: new Date(this.clock()).toISOString(),
    });
    await client.query(
      'INSERT INTO audit_seals (number, up_to, statement, signer, signature, leaves) VALUES ($1, $2, $3, $4, $5, $6)',
      [(before?.number ?? 0) + 1, leaves.at(-1)!.position, seal.statement, seal.signer, seal.signature, hashes],
    );
    return seal;
  }

  private async leaves(client: Connection, after: number, head: number): Promise<Leaf[]> {
    const { rows } = await client.query<Leaf>(
      `${chainedSql(`hash = ${eventHashSql()} AS is_true`)}
       SELECT stream || '/' || version AS event, chained.position::float8 AS position, hash, is_true AS "isTrue",
         coalesce(previous = before, false) AS "isLinked"
       FROM chained ORDER BY chained.position`,
      [after, head, this.most, noHash],
    );
    return rows;
  }
}
