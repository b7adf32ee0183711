import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Kafka, logLevel } from 'kafkajs';
import { openPool } from '@app/database';
import { finder, needlesOf } from '@app/erasure';
import { kafkaIsInstalled, sharedKafka, type SharedKafka } from './support/kafka';
import { startSystem, type System } from './support/processes';

const program = resolve(__dirname, '../bin/sendmux');

/** Skipped where Java or Maven is missing: see tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip)('a mailbox that is erased', () => {
  let kafka: SharedKafka;
  let system: System;

  beforeAll(async () => {
    kafka = await sharedKafka();
    system = await startSystem({ brokers: kafka.brokers, env: { AUDIT_SEAL_INTERVAL: '200ms' } });
    await system.start('sealer');
  });
  afterAll(async () => {
    await system?.end();
  });

  const sendmux = (...args: string[]) => spawnSync(program, args, { encoding: 'utf8', env: { ...system.settings } });

  it('is in no table, no message of the topic, no export and no log', async () => {
    const address = 'ada@mail.acme.com';
    const has = finder([needlesOf(address)]);
    const { api } = await system.team();
    const idOf = ({ body }: { body: unknown }) => (body as { data: { id: string } }).data.id;
    const added = await api.add('mail.acme.com');
    await system.sandbox.place(added.body);
    await system.until('the domain is verified', async () => {
      const { body } = (await api.verify(idOf(added))) as { body: { data: { status: string } } };
      return body.data.status === 'verified';
    });
    const mailbox = idOf(await api.call('POST', '/mailboxes', { address, display_name: 'Ada Lovelace' }));
    await api.call('GET', `/mailboxes/availability?email=${encodeURIComponent(address)}`);
    await api.call('POST', '/mailboxes', { address });
    const mailServer = openPool(system.settings.MAIL_SERVER_DATABASE_URL!, 1);
    await system.until('the mail server has it', async () => {
      const { rowCount } = await mailServer.query('SELECT FROM mail_recipients WHERE address = $1', [address]);
      return rowCount === 1;
    });
    await mailServer.end();

    expect(sendmux('erase', 'mailbox', address, '--yes')).toMatchObject({ status: 1, stdout: '' });
    const exported = join(system.settings.SENDMUX_DATA_DIR!, 'events.ndjson.gz');
    expect(sendmux('events', 'export', '--file', exported).status).toBe(0);
    const folder = system.settings.SENDMUX_DATA_DIR!;
    const logs = readdirSync(folder).filter((name) => name.endsWith('.log'));
    expect(logs.length).toBeGreaterThan(4);
    const files = [exported, ...logs.map((name) => join(folder, name))];
    const erased = sendmux('erase', 'mailbox', address, '--delete', '--yes', '--json', '--files', ...files);
    expect(erased).toMatchObject({ status: 0, stderr: '' });
    expect(JSON.parse(erased.stdout)).toEqual({ mailboxes: [mailbox], searched: true, left: [] });

    const messages: string[] = [];
    const consumer = new Kafka({ brokers: [...kafka.brokers], logLevel: logLevel.NOTHING }).consumer({ groupId: 'e' });
    await consumer.connect();
    await consumer.subscribe({ topic: system.settings.KAFKA_TOPIC!, fromBeginning: true });
    await consumer.run({
      // eslint-disable-next-line @typescript-eslint/require-await -- the client wants a promise
      eachMessage: async ({ message: { key, value, headers = {} } }) => {
        const texts = [key, value, ...Object.values(headers).flat()].map((each) => each?.toString());
        messages.push(texts.join(' '));
      },
    });
    try {
      await system.until('the erasure is on the topic', () => messages.some((each) => each.includes('MailboxErased')));
      expect(messages.filter((each) => each.includes('"sealed"'))).toHaveLength(2);
      expect(messages.filter(has)).toEqual([]);
    } finally {
      await consumer.disconnect();
    }
    // Provisioning has taken MailboxErased, and put nothing back.
    expect(sendmux('erase', 'mailbox', address, '--yes', '--files', ...files)).toMatchObject({ status: 0, stderr: '' });
    await system.until('the log is verified', () => sendmux('audit', 'verify').status === 0);
  });
});
