import { generateKeyPairSync } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { loadSettings } from '@app/runtime';
import { Logger } from '@nestjs/common';
import { kafkaClientsOfRun, kafkaIsInstalled } from '../../test/support/kafka';
import { startSecureKafka, type SecureKafka, type SecureListener } from '../../test/support/secure-kafka';
import { sample } from '../../test/support/sample';
import { startTokenServer, unsignedToken, type TokenServer } from '../../test/support/token-server';
import { toCloudEvent } from './cloud-event';
import { KafkaClient } from './kafka-client';
import type { GroupMember } from './kafka-driver';
import { KafkaAway, TokenRefused } from './kafka-errors';
import { kafkaSettingNames, kafkaSettings } from './kafka-settings';

let kafka: SecureKafka;

beforeAll(async () => {
  Logger.overrideLogger(false);
  if (kafkaIsInstalled()) kafka = await startSecureKafka();
});
afterAll(() => kafka?.destroy());

/** Speaks to a real broker as settings say. Skipped where Java or Maven is missing: see tools/install-counterparts. */
(kafkaIsInstalled() ? describe : describe.skip).each(kafkaClientsOfRun)(
  '%s on a network that nobody trusts',
  (library) => {
    let topics = 0;

    function client(listener: SecureListener, env: NodeJS.ProcessEnv): KafkaClient {
      const given = {
        SENDMUX_DATA_DIR: '/nonexistent',
        KAFKA_CLIENT: library,
        KAFKA_BROKERS: kafka.broker(listener),
        ...env,
      };
      return new KafkaClient(kafkaSettings(loadSettings(given, kafkaSettingNames))!, 'test');
    }

    /** Makes a topic, publishes an event to it, and reads it as a member of a group. Gives the id of what arrives. */
    async function roundTrip(client: KafkaClient): Promise<string> {
      const topic = `${library}-${(topics += 1)}`;
      const admin = await client.admin();
      await admin.ensureTopic({ topic, partitions: 1, replication: 1 });
      await admin.close();
      const publisher = await client.publisher(topic, 1);
      await publisher.send([anEvent]);
      await publisher.close();
      for (;;)
        try {
          return await firstOf(client, topic);
        } catch (error) {
          // The coordinator of the first group may still be loading.
          if (!(error instanceof KafkaAway)) throw error;
        }
    }

    /** Reads a topic as a member of a group. Gives the id of the first event that arrives. */
    async function firstOf(client: KafkaClient, topic: string): Promise<string> {
      let joining: Promise<GroupMember> | undefined;
      try {
        return await new Promise<string>((arrived, crashed) => {
          joining = client.member(`group-${topic}`, topic, {
            assigned: () => undefined,
            records: (_partition, [message]) => arrived(message!.headers.ce_id!),
            rebalancing: () => undefined,
            crashed,
          });
          joining.catch(crashed);
        });
      } finally {
        await joining?.then((member) => member.close()).catch(() => undefined);
      }
    }

    const trusting = () => ({ KAFKA_TLS: 'true', KAFKA_CA_FILE: kafka.file('trusted.pem', kafka.certificates.ca) });

    describe('by TLS', () => {
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

    it('with a password by SASL/PLAIN; a wrong one is for good', async () => {
      const env = { ...trusting(), KAFKA_SASL_MECHANISM: 'plain', KAFKA_USERNAME: 'sendmux', KAFKA_PASSWORD: 'secret' };
      expect(await roundTrip(client('password', env))).toBe('s/1');
      const refused = client('password', { ...env, KAFKA_PASSWORD: 'wrong' }).admin();
      await expect(refused).rejects.toThrow(/Authentication failed|authentication failed/);
      await expect(refused).rejects.not.toThrow(KafkaAway);
    });

    it('with the user and the password that their files have now', async () => {
      const env = {
        ...trusting(),
        KAFKA_SASL_MECHANISM: 'plain',
        KAFKA_USERNAME_FILE: kafka.file('username', 'sendmux\n'),
        KAFKA_PASSWORD_FILE: kafka.file('password', 'wrong\n'),
      };
      const changing = client('password', env);
      await expect(changing.admin()).rejects.toThrow(/[Aa]uthentication failed/);
      kafka.file('password', 'secret\n');
      expect(await roundTrip(changing)).toBe('s/1');
      kafka.file('username', 'other\n');
      await expect(changing.admin()).rejects.toThrow(/[Aa]uthentication failed/);
    });

    describe('with a token by SASL/OAUTHBEARER', () => {
      let server: TokenServer;

      beforeEach(async () => (server = await startTokenServer()));
      afterEach(() => server.close());

      const byToken = () => ({
        ...trusting(),
        KAFKA_SASL_MECHANISM: 'oauthbearer',
        KAFKA_OAUTH_TOKEN_URL: server.url,
        KAFKA_OAUTH_CLIENT_ID: 'relay',
        KAFKA_OAUTH_CLIENT_SECRET: 's3cret',
      });
      const basic = `Basic ${Buffer.from('relay:s3cret').toString('base64')}`;

      it('is let in with one token for all connections', async () => {
        expect(await roundTrip(client('oauth', byToken()))).toBe('s/1');
        expect(server.requests.map(({ authorization }) => authorization)).toEqual([basic]);
      });

      it('is refused for good when the server gives it no token', async () => {
        server.answer = () => ({ status: 401, body: '{"error":"invalid_client"}' });
        const refused = client('oauth', byToken()).admin();
        await expect(refused).rejects.toThrow(TokenRefused);
        await expect(refused).rejects.toThrow(/answers 401 \(invalid_client\), and gives no token$/);
      });

      it('waits for a server of tokens that is away', async () => {
        const answer = server.answer;
        server.answer = () => ({ status: 503, body: '' });
        const waiting = client('oauth', byToken());
        await expect(waiting.admin()).rejects.toThrow(KafkaAway);
        await expect(waiting.admin()).rejects.toThrow(/answers 503/);
        server.answer = answer;
        expect(await roundTrip(waiting)).toBe('s/1');
      });

      it('is refused for good when the brokers do not take its token', async () => {
        const token = (value: string) => () => ({ body: JSON.stringify({ access_token: value, expires_in: 60 }) });
        server.answer = token('nonsense');
        const refused = client('oauth', byToken()).admin();
        await expect(refused).rejects.toThrow(TokenRefused);
        await expect(refused).rejects.toThrow('The broker does not take the token (invalid_token)');
      });

      // The brokers ask for a new token after 12 seconds, which a whole run waits for.
      (sample(0, 1) ? it : it.skip)('shows a new token on the connections that it has', async () => {
        server.answer = () => ({ body: JSON.stringify({ access_token: unsignedToken(20), expires_in: 20 }) });
        const topic = `${library}-long`;
        const long = client('oauth', byToken());
        const admin = await long.admin();
        await admin.ensureTopic({ topic, partitions: 1, replication: 1 });
        const publisher = await long.publisher(topic, 1);
        const arrived: string[] = [];
        const crashes: Error[] = [];
        const member = await long.member(topic, topic, {
          assigned: () => undefined,
          records: (_partition, messages) => arrived.push(...messages.map(({ headers }) => headers.ce_id!)),
          rebalancing: () => undefined,
          crashed: (error) => crashes.push(error),
        });
        const sent = 40;
        for (let count = 0; count < sent; count++) {
          await publisher.send([anEvent]);
          await admin.ends(topic);
          await sleep(1_000);
        }
        expect(crashes).toEqual([]);
        expect(arrived).toHaveLength(sent);
        expect(server.requests.length).toBeGreaterThanOrEqual(3);
        await Promise.all([publisher.close(), admin.close(), member.close()]);
      });
    });
  },
);

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
