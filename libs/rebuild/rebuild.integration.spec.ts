import { setTimeout as sleep } from 'node:timers/promises';
import { DomainCommandHandler, MailboxCommandHandler, type Commands } from '@app/commands';
import { inTransaction, openPool } from '@app/database';
import type { CommandContext } from '@app/decider';
import {
  AddDomain,
  CompleteDeletion,
  CompleteProvisioning,
  DomainRuleBroken,
  RecordCheck,
  RequestDeletion,
} from '@app/mail-domain';
import type { Finding } from '@app/mail-records';
import { EventStore, eventStoreMigrations } from '@app/event-store';
import { CreateMailbox, DeleteMailbox, MailboxRuleBroken, SuspendMailbox } from '@app/mailbox';
import {
  allow,
  DomainsReadModel,
  domainsProjection,
  MailboxesReadModel,
  mailboxesProjection,
  Quotas,
  readModelMigrations,
} from '@app/read-model';
import { newId } from '@app/runtime';
import { Logger } from '@nestjs/common';
import { Client, type Pool } from 'pg';
import { fillLog } from '../../bench/lives';
import { commandsTo } from '../../test/support/commands';
import { mailboxKeysMigrations } from '@app/mailbox-keys';
import { mailboxKeyRingOfTests as keyRing, mailboxKeysIn } from '../../test/support/mailbox-keys';
import { sample } from '../../test/support/sample';
import { countedAndHeld, replayedAndLive } from '../../test/support/replayed-read-model';
import { databaseWith, type TestDatabase } from '../../test/support/test-database';
import { compare, isRebuilding, projectionNames, rebuild, type Difference } from '.';

let database: TestDatabase;
let client: Client;

beforeEach(async () => {
  Logger.overrideLogger(false);
  database = await databaseWith([...eventStoreMigrations, ...readModelMigrations, ...mailboxKeysMigrations]);
  client = new Client({ connectionString: database.url });
  client.on('error', () => undefined);
  await client.connect();
});
afterEach(async () => {
  await client.end();
  await database.drop();
});

const context = (): CommandContext => ({ at: new Date().toISOString(), actor: 'key_1', correlationId: 'req_1' });

/** Stands for one gateway, with a pool, prepared statements and handlers of its own. */
class Gateway {
  readonly pool: Pool;
  readonly commands: Commands;
  readonly readDomains: DomainsReadModel;
  readonly readMailboxes: MailboxesReadModel;

  constructor(url: string) {
    this.pool = openPool(url, 4);
    this.commands = commandsTo(
      new DomainCommandHandler(new EventStore(this.pool, domainsProjection)),
      new MailboxCommandHandler(new EventStore(this.pool, mailboxesProjection), mailboxKeysIn(this.pool)),
    );
    this.readDomains = new DomainsReadModel(this.pool);
    this.readMailboxes = new MailboxesReadModel(this.pool);
  }

  async verified(name: string, team: string): Promise<string> {
    const id = newId('mdom');
    await this.commands.execute(new AddDomain(id, { name, team, deadline: context().at }, context()));
    await this.commands.execute(new CompleteProvisioning(id, identity, context()));
    await this.commands.execute(new RecordCheck(id, { ...allGood, trigger: 'requested', cycle: null }, context()));
    return id;
  }

  async create(address: string, team: string): Promise<string> {
    const id = newId('mbx');
    const home = await this.readDomains.homeOf(address.slice(address.indexOf('@') + 1), team);
    await this.commands.execute(new CreateMailbox(id, { address, team, home, provider: null }, context()));
    return id;
  }
}

const identity = {
  dkimTokens: ['a', 'b"\\', 'ü\t'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
  sesDkimStatus: 'success',
} as const;
const allGood = {
  findings: (['mx', 'verification_txt', 'spf', 'dmarc', 'dkim'] as const).map((check): Finding => ({
    check,
    outcome: 'pass',
    code: 'ok',
    message: 'ü "quoted" \\ and\ttabbed',
    name: 'n',
    type: 'TXT',
    expected: 'e',
    observed: ['o'],
  })),
  sesDkimStatus: 'success',
} as const;

async function withGateways<T>(count: number, work: (gateways: Gateway[]) => Promise<T>): Promise<T> {
  const gateways = Array.from({ length: count }, () => new Gateway(database.url));
  try {
    return await work(gateways);
  } finally {
    await Promise.all(gateways.map(({ pool }) => pool.end()));
  }
}

/** Creates domains and mailboxes in every state that a few commands lead to. */
const live = (domains: number) =>
  withGateways(1, async ([gateway]) => {
    for (let i = 0; i < domains; i++) {
      const id = await gateway!.verified(`d${i}.example.com`, `team_${i % 3}`);
      if (i % 3 === 0) await gateway!.commands.execute(new RequestDeletion(id, context()));
      if (i % 6 === 0) await gateway!.commands.execute(new CompleteDeletion(id, context()));
      if (i % 3 !== 1) continue;
      const mailbox = await gateway!.create(`ada@d${i}.example.com`, `team_${i % 3}`);
      if (i % 2) await gateway!.commands.execute(new SuspendMailbox(mailbox, context()));
    }
  });

async function expectEqual(): Promise<void> {
  const { replayed, live } = await replayedAndLive(database.url);
  expect(live).toEqual(replayed);
  expect(replayed.length).toBeGreaterThan(0);
  const { counted, held } = await countedAndHeld(database.url);
  expect(counted).toEqual(held);
}

async function differences(name: (typeof projectionNames)[number]): Promise<Difference[]> {
  const found: Difference[] = [];
  const { differences: count } = await compare(database.url, name, (difference) => found.push(difference), { keyRing });
  expect(count).toBe(found.length);
  return found;
}

/** Reads the whole catalogue of the tables, by name. */
async function catalogue(): Promise<unknown> {
  const queries = [
    `SELECT c.relname, c.relkind, c.relpersistence, c.reloptions, c.relacl::text, c.relreplident, obj_description(c.oid, 'pg_class'),
       pg_get_userbyid(c.relowner) FROM pg_class c WHERE relnamespace = 'public'::regnamespace ORDER BY 1`,
    `SELECT attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod), attnotnull, attcollation, attstorage,
       attacl::text, pg_get_expr(adbin, adrelid) FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
     WHERE attrelid IN ('domains'::regclass, 'mailboxes'::regclass) AND attnum > 0 ORDER BY 1, 2`,
    `SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1, 2`,
    `SELECT indexrelid::regclass::text, indisprimary, indisunique, indisvalid, indisclustered FROM pg_index
     WHERE indrelid IN ('domains'::regclass, 'mailboxes'::regclass) ORDER BY 1`,
    `SELECT conrelid::regclass::text, conname, contype, pg_get_constraintdef(oid), conindid::regclass::text FROM pg_constraint
     WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2`,
    `SELECT tgrelid::regclass::text, tgname, tgenabled, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1, 2`,
  ];
  const found: unknown[] = [];
  for (const text of queries) found.push((await client.query({ text, rowMode: 'array' })).rows);
  return found;
}

describe('a rebuilt table', () => {
  it('is a fresh fold of the log, row for row, whatever was done to it', async () => {
    await live(30);
    await client.query(`DELETE FROM domains WHERE name LIKE 'd1%'; DELETE FROM mailboxes WHERE address LIKE '%4%'`);
    await client.query(
      `UPDATE domains SET status = 'failed', dkim_tokens = '[]'; UPDATE mailboxes SET team = 'team_x'`,
    );
    await client.query(`INSERT INTO mailboxes VALUES ('mbx_x', 'a@b', 't', NULL, 'active', NULL, now(), now(), 1)`);
    for (const name of projectionNames) {
      const { rows, events, resumedAt } = await rebuild(database.url, name, { keyRing });
      expect({ rows, resumedAt }).toEqual({ rows: name === 'domains' ? 30 : 10, resumedAt: 0 });
      expect(events).toBeGreaterThanOrEqual(rows);
    }
    await expectEqual();
    for (const name of projectionNames) expect(await differences(name)).toEqual([]);
    expect(await isRebuilding(database.url, 'domains')).toBeUndefined();
  });

  it('is the same in the catalogue: columns, indexes, constraints, triggers, rights, settings, comment', async () => {
    await live(3);
    const reader = `reader_${Date.now()}`;
    await client.query(`CREATE ROLE ${reader}`);
    try {
      await client.query(`GRANT SELECT ON domains TO ${reader}; GRANT UPDATE (name) ON domains TO PUBLIC`);
      await client.query(`ALTER TABLE domains SET (fillfactor = 90, autovacuum_enabled = true)`);
      await client.query(`COMMENT ON TABLE domains IS 'it''s ours'`);
      const before = await catalogue();
      for (const name of [...projectionNames, ...projectionNames]) await rebuild(database.url, name, { keyRing });
      expect(await catalogue()).toEqual(before);
      expect(JSON.stringify(before)).toMatch(/domains_no_mailbox_left.*mailboxes_live_home/);
    } finally {
      await client.query(`DROP OWNED BY ${reader}; DROP ROLE ${reader}`);
    }
  });

  it('is counted for the quotas of the teams, also where the table was empty, and what they may have stays', async () => {
    await live(9);
    await withGateways(1, async ([gateway]) => {
      await inTransaction(gateway!.pool, (connection) => allow(connection, 'team_1', 'domains', 4));
      const quotas = new Quotas(gateway!.pool);
      const before = await quotas.of('team_1');
      expect(before).toMatchObject({ domains: { current: 3, limit: 4 }, mailboxes: { current: 3 } });
      await client.query(`TRUNCATE domains, mailboxes; UPDATE team_quotas SET used = 7; UPDATE common_quotas SET used = 1
        WHERE used IS NOT NULL; INSERT INTO team_quotas (kind, team, used) VALUES ('domains', 'team_gone', 3)`);
      for (const name of projectionNames) await rebuild(database.url, name, { keyRing });
      expect(await quotas.of('team_1')).toEqual(before);
      await expectEqual();
      await gateway!.verified('last.example.com', 'team_1');
      await expect(gateway!.verified('beyond.example.com', 'team_1')).rejects.toThrow('4 is the most');
    });
  });

  it('holds the rules between domains and mailboxes as before', async () => {
    await live(2);
    await withGateways(1, async ([gateway]) => {
      const id = await gateway!.verified('rules.example.com', 'team_r');
      await gateway!.create('ada@rules.example.com', 'team_r');
      for (const name of projectionNames) await rebuild(database.url, name, { keyRing });
      const taken = new AddDomain(
        newId('mdom'),
        { name: 'rules.example.com', team: 't', deadline: context().at },
        context(),
      );
      await expect(gateway!.commands.execute(taken)).rejects.toThrow('rules.example.com is taken.');
      await expect(gateway!.create('ada@rules.example.com', 'team_r')).rejects.toThrow('is a mailbox already');
      await expect(gateway!.commands.execute(new RequestDeletion(id, context()))).rejects.toThrow(
        '1 mailbox still lives',
      );
      // The command says that the domain is verified; the trigger sees that it belongs to another team.
      const home = { domainId: id, status: 'verified' };
      const data = { address: 'eve@rules.example.com', team: 'team_e', home, provider: null };
      await expect(gateway!.commands.execute(new CreateMailbox(newId('mbx'), data, context()))).rejects.toThrow();
    });
    await expectEqual();
  });
});

describe('while a rebuild runs', () => {
  it('gateways read and append without a failure, and the tables equal a fold of the log', async () => {
    await fillLog(database.url, sample(8_000, 20_000));
    await rebuild(database.url, 'domains');
    const failures: unknown[] = [];
    let [reads, appends] = [0, 0];
    await withGateways(3, async (gateways) => {
      const ended = new AbortController();
      const forEver = async (work: (round: number) => Promise<void>) => {
        for (let round = 0; !ended.signal.aborted; round++)
          await work(round).catch((error: unknown) => {
            // These refusals are expected: the name is taken, or the domain is being deleted.
            if (!(error instanceof DomainRuleBroken || error instanceof MailboxRuleBroken)) failures.push(error);
          });
      };
      const { rows: known } = await client.query<{ id: string; team: string; name: string }>(
        `SELECT id, team, name FROM domains WHERE status = 'verified' LIMIT 50`,
      );
      const load = gateways.flatMap((gateway, g) => [
        forEver(async (round) => {
          const { id, team, name } = known[round % known.length]!;
          const found = await gateway.readDomains.find(id, team);
          const page = await gateway.readDomains.page(team, 20);
          const holder = await gateway.readDomains.holderOf(name);
          if (found?.name !== name || page.length === 0 || holder?.id !== id)
            throw new Error(`${id} was not there: ${JSON.stringify([found, page.length, holder])}`);
          reads += 3;
        }),
        forEver(async (round) => {
          const team = `team_${g}`;
          const name = `x${round % 7}.example.com`;
          const id = await gateway.verified(name, team);
          const mailbox = await gateway.create(`ada@${name}`, team);
          const seen = await gateway.readMailboxes.find(mailbox, team);
          if (!seen || !(await gateway.readDomains.find(id, team)))
            throw new Error('A write of its own was not there.');
          await gateway.commands.execute(new DeleteMailbox(mailbox, context()));
          await gateway.commands.execute(new RequestDeletion(id, context()));
          await gateway.commands.execute(new CompleteDeletion(id, context()));
          appends += 7;
        }),
      ]);
      for (let round = 0; round < sample(2, 3); round++)
        for (const name of projectionNames) await rebuild(database.url, name, { keyRing });
      ended.abort();
      await Promise.all(load);
    });
    expect(failures).toEqual([]);
    expect(reads).toBeGreaterThan(100);
    expect(appends).toBeGreaterThan(100);
    await expectEqual();
  });

  it('quotas may be set, and the swap is tried again', async () => {
    await live(9);
    const pool = openPool(database.url, 2);
    let ended = false;
    const setting = (async () => {
      for (const until = Date.now() + 2_000; !ended && Date.now() < until;)
        await inTransaction(pool, async (connection) => {
          await allow(connection, 'team_1', 'domains', 50);
          // A count that the swap has to put right.
          await connection.query(`UPDATE team_quotas SET used = used + 1 WHERE team = 'team_1' AND kind = 'domains'`);
          await sleep(30);
        });
    })();
    await rebuild(database.url, 'domains').finally(() => (ended = true));
    await setting;
    // The last of them may have come after the swap.
    await rebuild(database.url, 'domains');
    expect((await new Quotas(pool).of('team_1')).domains).toEqual({ current: 3, limit: 50 });
    await pool.end();
    await expectEqual();
  });

  it('another one is refused', async () => {
    await fillLog(database.url, 2_000);
    let second: Promise<unknown> | undefined;
    const first = rebuild(database.url, 'domains', {
      onProgress: () => {
        second ??= rebuild(database.url, 'domains').catch((error: Error) => error.message);
      },
      patienceMs: 120_000,
    });
    // The swap waits for a transaction that has read the table, so the first rebuild still runs while the second one
    // starts.
    await client.query('BEGIN; SELECT FROM domains');
    while (!second) await sleep(20);
    await second;
    await client.query('COMMIT');
    await first;
    expect(await second).toBe('Another rebuild of domains is running.');
  });

  it('a transaction that holds the table delays no other for long, and the rebuild continues when it ends', async () => {
    await live(6);
    const reader = new Client({ connectionString: database.url });
    await reader.connect();
    await client.query('BEGIN; SELECT FROM domains');
    let longest = 0;
    let ended = false;
    const reading = (async () => {
      while (!ended) {
        const began = performance.now();
        await reader.query(`SELECT FROM domains WHERE name = 'd1.example.com'`);
        longest = Math.max(longest, performance.now() - began);
        await sleep(5);
      }
    })();
    await expect(rebuild(database.url, 'domains', { patienceMs: 3_000 })).rejects.toThrow(
      /^Others hold the table domains, without a pause: server process \d+ \(AccessShareLock\)/,
    );
    ended = true;
    await reading;
    await reader.end();
    // The rebuild requests the lock with a short time-out, so no read waits behind it for all of its patience.
    expect(longest).toBeLessThan(2_500);
    await client.query('COMMIT');
    const left = await isRebuilding(database.url, 'domains');
    expect(left?.events).toBeGreaterThan(0);
    expect((await rebuild(database.url, 'domains')).resumedAt).toBe(left?.events);
    await expectEqual();
  });

  it('a transaction with an older snapshot is waited for, since it would see only a part of the new table', async () => {
    await live(3);
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM mailboxes');
    await expect(rebuild(database.url, 'domains', { patienceMs: 500 })).rejects.toThrow(
      /would not see the new table whole/,
    );
    expect((await client.query('SELECT FROM domains')).rowCount).toBe(3);
    await client.query('COMMIT');
    await rebuild(database.url, 'domains');
    await expectEqual();
  });
});

describe('a rebuild that is stopped', () => {
  it('leaves the table as it was and is resumed by the next run, even if the log has grown and names have moved', async () => {
    // Some chunks of rows, each of a short life.
    await fillLog(database.url, 20_000, 7, [], true);
    await rebuild(database.url, 'domains');
    await client.query(`UPDATE domains SET team = 'team_x'`);
    await withGateways(1, async ([gateway]) => {
      const resumed: number[] = [];
      for (let run = 0; ; run++) {
        const id = await gateway!.verified('moving.example.com', 'team_m');
        const stop = new AbortController();
        let told = 0;
        const stopped = rebuild(database.url, 'domains', {
          signal: stop.signal,
          restart: run === 1,
          onProgress: () => void (++told === 1 && stop.abort(new Error('stopped'))),
        });
        const outcome = await stopped.then(
          (rebuilt) => rebuilt,
          (error: Error) => error.message,
        );
        await gateway!.commands.execute(new RequestDeletion(id, context()));
        await gateway!.commands.execute(new CompleteDeletion(id, context()));
        if (typeof outcome !== 'string') {
          resumed.push(outcome.resumedAt);
          break;
        }
        expect(outcome).toBe('stopped');
        resumed.push((await isRebuilding(database.url, 'domains'))!.events);
        expect((await client.query(`SELECT FROM domains WHERE team = 'team_x'`)).rowCount).toBeGreaterThan(3_000);
      }
      expect(resumed.length).toBeGreaterThan(2);
      // The first two runs began at the beginning, and each later one where the run before it had stopped.
      expect(resumed.slice(1).toSorted((a, b) => a - b)).toEqual(resumed.slice(1));
      expect(resumed[0]).toBeGreaterThan(0);
    });
    await rebuild(database.url, 'domains');
    await expectEqual();
  });

  it('starts from the beginning with --restart, and when the columns of the table have changed', async () => {
    await live(3);
    await client.query('BEGIN; SELECT FROM domains');
    const stopped = () => expect(rebuild(database.url, 'domains', { patienceMs: 0 })).rejects.toThrow('Others hold');
    await stopped();
    await client.query('COMMIT; BEGIN; SELECT FROM domains');
    await expect(rebuild(database.url, 'domains', { patienceMs: 0, restart: true })).rejects.toThrow('Others hold');
    await client.query('COMMIT');
    await client.query('ALTER TABLE domains ADD COLUMN more text');
    expect((await rebuild(database.url, 'domains')).resumedAt).toBe(0);
    expect((await client.query<{ more: unknown }>('SELECT more FROM domains')).rows[0]).toEqual({ more: null });
  });
});

describe('a rebuild is refused, and nothing is changed', () => {
  it('when something would stay with the old table', async () => {
    await live(1);
    await client.query('CREATE VIEW ours AS SELECT * FROM domains');
    await expect(rebuild(database.url, 'domains')).rejects.toThrow(/would stay with the old one: view ours\./);
    await client.query('DROP VIEW ours; CREATE TABLE t (id text REFERENCES domains)');
    await expect(rebuild(database.url, 'domains')).rejects.toThrow(/constraint t_id_fkey on table t/);
  });

  it('when the name of the shadow is taken', async () => {
    await client.query('CREATE TABLE domains_rebuild ()');
    await expect(rebuild(database.url, 'domains', { restart: true })).rejects.toThrow('that no rebuild has made');
  });

  it('when the log has lost an event, or breaks a rule of the table', async () => {
    await live(4);
    await client.query('ALTER TABLE events DISABLE TRIGGER events_are_facts');
    await client.query(
      `UPDATE events SET data = '{"name":"d1.example.com","team":"t","deadline":"2026-01-01T00:00:00.000Z"}'
       WHERE type = 'DomainAdded' AND data->>'name' = 'd2.example.com'`,
    );
    await expect(rebuild(database.url, 'domains')).rejects.toThrow(
      /^The log breaks a rule of the table .*d1\.example\.com/,
    );
    await client.query(`DELETE FROM events WHERE type = 'DomainProvisioned'`);
    await expect(rebuild(database.url, 'domains', { restart: true })).rejects.toThrow(
      /^The log is not whole: before mdom_\w+\/3 an event of the stream is missing\.$/,
    );
    expect((await client.query('SELECT FROM domains')).rowCount).toBe(4);
  });
});

describe('a migration that fills a column from the log', () => {
  it.each([
    ['FindDomainsByMore1796400000200', 'last_look'],
    ['LetDomainsExpire1796700000100', 'first_verified_at'],
  ])('gives what a fold of the log gives: %s', async (migration, column) => {
    await live(9);
    await withGateways(1, async ([gateway]) => {
      // Verified once, and not any more.
      const id = await gateway!.verified('lapsed.example.com', 'team_1');
      const findings = allGood.findings.map((each) => ({ ...each, outcome: 'fail' as const }));
      const look = { ...allGood, findings, trigger: 'requested', cycle: null } as const;
      await gateway!.commands.execute(new RecordCheck(id, look, context()));
    });
    const fills = new (readModelMigrations.find(({ name }) => name === migration)!)();
    await fills.down(client as never);
    await fills.up(client as never);
    const { rows } = await client.query(`SELECT FROM domains WHERE ${column} IS NOT NULL AND status = 'pending'`);
    expect(rows.length).toBe(1);
    expect(await differences('domains')).toEqual([]);
  });
});

describe('the comparison', () => {
  it.each(projectionNames)(
    'finds a planted difference of each column of %s, a missing row and an unknown one',
    async (name) => {
      await live(9);
      const { columns, key } = name === 'domains' ? domainsProjection : mailboxesProjection;
      expect(await differences(name)).toEqual([]);
      const { rows } = await client.query<{ id: string }>(
        `SELECT id FROM ${name} WHERE status <> 'deleted' ORDER BY id`,
      );
      const { id } = rows[0]!;
      const planted: Record<string, string> = {
        text: `coalesce(%, '') || 'x'`,
        json: `'["a" ]'`,
        jsonb: `'{"a": 1}'`,
        integer: '% + 1',
        timestamptz: `coalesce(%, now()) + interval '1 microsecond'`,
      };
      await client.query(`ALTER TABLE ${name} DISABLE TRIGGER USER`);
      for (const [column, type] of Object.entries(columns)) {
        if (column === key) continue;
        await client.query('CREATE TEMP TABLE kept AS SELECT * FROM ' + name);
        await client.query(`UPDATE ${name} SET ${column} = ${planted[type]!.replace('%', column)} WHERE id = $1`, [id]);
        const found = await differences(name);
        expect(found).toEqual([{ id, kind: 'different', columns: [expect.objectContaining({ column })] }]);
        await client.query(`DELETE FROM ${name}; INSERT INTO ${name} SELECT * FROM kept; DROP TABLE kept`);
      }
      await client.query(`UPDATE ${name} SET id = 'zz_unknown' WHERE id = $1`, [id]);
      expect((await differences(name)).map((each) => [each.id, each.kind])).toEqual([
        [id, 'missing'],
        ['zz_unknown', 'unknown'],
      ]);
    },
  );

  it('finds no difference in concurrent appends', async () => {
    await live(3);
    await withGateways(2, async (gateways) => {
      const ended = new AbortController();
      const load = gateways.map(async (gateway, g) => {
        for (let i = 0; !ended.signal.aborted; i++) await gateway.verified(`g${g}-${i}.example.com`, 'team_l');
      });
      for (let i = 0; i < 30; i++) expect(await differences('domains')).toEqual([]);
      ended.abort();
      await Promise.all(load);
    });
  });
});
