import { generateKeyPairSync } from 'node:crypto';
import { loadSettings } from '@app/runtime';
import { Logger } from '@nestjs/common';
import { kafkaIsInstalled } from '../../test/support/kafka';
import { startSecureKafka, type SecureKafka, type SecureListener } from '../../test/support/secure-kafka';
import { toCloudEvent } from './cloud-event';
import { KafkaClient } from './kafka-client';
import type { GroupMember } from './kafka-driver';
import { KafkaAway } from './kafka-errors';
import { kafkaSettingNames, kafkaSettings } from './kafka-settings';

/** Speaks to a real broker as settings say. Skipped where Java or Maven is missing: see tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip)('on a network that nobody trusts', () => {
  let kafka: SecureKafka;
  let topics = 0;

  beforeAll(async () => {
    Logger.overrideLogger(false);
    kafka = await startSecureKafka();
  });
  afterAll(() => kafka?.destroy());

  function client(listener: SecureListener, env: NodeJS.ProcessEnv): KafkaClient {
    const given = { SENDMUX_DATA_DIR: '/nonexistent', KAFKA_BROKERS: kafka.broker(listener), ...env };
    return new KafkaClient(kafkaSettings(loadSettings(given, kafkaSettingNames))!, 'test');
  }

  /** Makes a topic, publishes an event to it, and reads it as a member of a group. Gives the id of what arrives. */
  async function roundTrip(client: KafkaClient): Promise<string> {
    const topic = `events-${(topics += 1)}`;
    const admin = await client.admin();
    await admin.ensureTopic({ topic, partitions: 1, replication: 1 });
    await admin.close();
    const publisher = await client.publisher(topic, 1);
    await publisher.send([anEvent]);
    await publisher.close();
    let member: GroupMember | undefined;
    try {
      return await new Promise<string>((arrived, crashed) => {
        client
          .member(`group-${topics}`, topic, {
            assigned: () => undefined,
            records: (_partition, [message]) => arrived(message!.headers.ce_id!),
            rebalancing: () => undefined,
            crashed,
          })
          .then((joined) => (member = joined), crashed);
      });
    } finally {
      await member?.close();
    }
  }

  describe('by TLS', () => {
    const trusting = () => ({ KAFKA_TLS: 'true', KAFKA_CA_FILE: kafka.file('trusted.pem', kafka.certificates.ca) });

    it('trusts a broker whose certificate is signed by an authority of KAFKA_CA_FILE', async () => {
      expect(await roundTrip(client('tls', trusting()))).toBe('s/1');
    });

    it('sends nothing to a broker whose certificate no trusted authority has signed', async () => {
      const stranger = { ...trusting(), KAFKA_CA_FILE: kafka.file('other.pem', kafka.certificates.selfSigned.cert) };
      for (const env of [{ KAFKA_TLS: 'true' }, stranger]) {
        const refused = client('tls', env).admin();
        await expect(refused).rejects.toThrow(KafkaAway);
        await expect(refused).rejects.toThrow(/certificate/);
      }
    });

    it('shows its own certificate to a broker that wants one, and without it is not let in', async () => {
      const { key, cert } = kafka.certificates.good;
      const own = { KAFKA_CERTIFICATE_FILE: kafka.file('own.pem', cert), KAFKA_KEY_FILE: kafka.file('own.key', key) };
      expect(await roundTrip(client('mutual', { ...trusting(), ...own }))).toBe('s/1');
      await expect(roundTrip(client('mutual', trusting()))).rejects.toThrow(KafkaAway);
    });

    it('refuses files that cannot be used, at the start, by the name of their setting', () => {
      const { key, cert } = kafka.certificates.good;
      const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
      const other = kafka.file('other.key', privateKey.export({ type: 'pkcs8', format: 'pem' }) as string);
      const faulty: [string, NodeJS.ProcessEnv][] = [
        ['KAFKA_CA_FILE', { KAFKA_CA_FILE: '/nonexistent.pem' }],
        ['KAFKA_CA_FILE', { KAFKA_CA_FILE: kafka.file('text.pem', 'no certificate') }],
        ['KAFKA_CERTIFICATE_FILE', { KAFKA_CERTIFICATE_FILE: kafka.file('c.pem', cert), KAFKA_KEY_FILE: other }],
        ['KAFKA_KEY_FILE', { KAFKA_CERTIFICATE_FILE: kafka.file('c.pem', cert), KAFKA_KEY_FILE: '/nonexistent.key' }],
        ['KAFKA_CERTIFICATE_FILE', { KAFKA_CERTIFICATE_FILE: kafka.file('k.pem', key), KAFKA_KEY_FILE: other }],
      ];
      for (const [setting, env] of faulty)
        expect(() => client('tls', { KAFKA_TLS: 'true', ...env })).toThrow(
          new RegExp(`^${setting} names a file that cannot be used: `),
        );
    });
  });
});

const anEvent = toCloudEvent({
  position: 1,
  stream: 's',
  version: 1,
  type: 'DomainAdded',
  schemaVersion: 1,
  data: { name: 'mail.acme.com' },
  time: new Date().toISOString(),
  metadata: { actor: 'test', correlationId: 'c' },
});
