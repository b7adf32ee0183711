import { bindIsInstalled, startBind, type Bind } from './support/bind';
import { kafkaIsInstalled, sharedKafka, type SharedKafka } from './support/kafka';
import { pgBouncerIsInstalled } from './support/pgbouncer';
import { postfixIsInstalled, startPostfix, type Postfix } from './support/postfix';
import { startSystem, type ApiClient, type System } from './support/processes';
import { variantsOfRun } from './support/sample';

interface DnsRecords {
  mx: { priority: number; target: string }[];
  spf: { name: string; value: string };
  dmarc: { name: string; value: string };
  verification: { name: string; value: string };
}
interface Domain {
  id: string;
  verification_status: string;
  dns_records: DnsRecords;
}

const areInstalled = bindIsInstalled() && postfixIsInstalled();

/**
 * The whole system with a real Postfix and a real BIND, on one of the transports. Skipped where they are not installed:
 * see tools/install-counterparts.
 */
describe.each(
  variantsOfRun([
    ['the log in PostgreSQL', areInstalled, undefined],
    ['a real Kafka', areInstalled && kafkaIsInstalled(), sharedKafka],
  ] as const),
)('on %s', (_transport, installed, startKafka) => {
  (installed ? describe : describe.skip)('a domain’s life with a real Postfix and a real BIND', () => {
    let system: System;
    let kafka: SharedKafka | undefined;
    let bind: Bind;
    let postfix: Postfix;
    let api: ApiClient;
    const name = 'mail.acme.com';
    const owners = ['ada@owners.example', 'grace@owners.example'];

    beforeAll(async () => {
      bind = await startBind(['acme.com']);
      kafka = await startKafka?.();
      system = await startSystem({
        ...(kafka && { brokers: kafka.brokers }),
        together: 'all',
        pooled: pgBouncerIsInstalled(),
        env: { DOH_RESOLVERS: `${bind.dohUrl},${bind.dohUrl}?again`, VERIFICATION_INTERVAL: '3s' },
      });
      postfix = await startPostfix(system.mailServerDatabaseUrl);
      ({ api } = await system.team({ owners }));
    });
    afterAll(async () => {
      postfix?.stop();
      bind?.stop();
      await system?.end();
    });

    it('goes from refused to accepted, pending, verified, pending, failed with one mail per owner, verified, deleted', async () => {
      // Postfix does not know the domain before it is added.
      expect(await postfix.rcpt(`someone@${name}`)).toMatch(/^554 /);

      const added = await api.add(name);
      expect(added.status).toBe(201);
      const domain = (added.body as { data: Domain }).data;
      const status = async () => ((await api.get(domain.id)).body as { data: Domain }).data.verification_status;
      const becomes = (wanted: string) => system.until(`it is ${wanted}`, async () => (await status()) === wanted);
      expect(domain.verification_status).toBe('pending');
      expect(await postfix.rcpt(`someone@${name}`)).toMatch(/^550 /);
      expect(await postfix.rcpt('someone@other.acme.com')).toMatch(/^554 /);

      // All records are placed by nsupdate. SES checks its own records in the zone of the sandbox.
      const { mx, spf, dmarc, verification } = domain.dns_records;
      const place = [
        ...mx.map(({ priority, target }) => `add ${name} 60 MX ${priority} ${target}.`),
        `add ${spf.name} 60 TXT "${spf.value}"`,
        `add ${dmarc.name} 60 TXT "${dmarc.value}"`,
        `add ${verification.name} 60 TXT "${verification.value}"`,
      ];
      expect((await api.verify(domain.id)).body).toMatchObject({
        data: { status: 'pending', checks: { mx: false, verification_txt: false, spf: false, dmarc: false } },
      });
      bind.update(...place);
      expect((await api.verify(domain.id)).body).toMatchObject({
        data: {
          status: 'pending',
          ses_dkim_status: 'pending',
          checks: { mx: true, verification_txt: true, spf: true, dmarc: true },
        },
      });
      await system.sandbox.place(added.body);
      await becomes('verified');
      const created = await api.call('POST', '/mailboxes', { address: `someone@${name}` });
      expect(created.status).toBe(201);
      const takesMail = async () => (await postfix.rcpt(`someone@${name}`)).startsWith('250 ');
      await system.until('Postfix takes its mail', takesMail);

      // A resolver that does not answer must not count as a missing record.
      bind.pause();
      await new Promise((later) => setTimeout(later, 7_000));
      expect(await status()).toBe('verified');
      bind.resume();

      // Two records are removed: the first cycle makes the domain pending, and the next one fails it and mails each
      // owner once.
      bind.update(`delete ${name} MX`, `delete ${dmarc.name} TXT`);
      await becomes('pending');
      await becomes('failed');
      await system.until('the owners are told', async () => (await system.sandbox.mails()).length >= owners.length);
      await new Promise((later) => setTimeout(later, 4_000));
      const mails = await system.sandbox.mails();
      expect(mails.flatMap(({ to }) => to).sort()).toEqual(owners);
      for (const { subject, text, html } of mails) {
        expect(subject).toContain(name);
        for (const body of [text, html]) {
          expect(body).toContain('10 mail.sendmux.ai');
          expect(body).toContain('v=DMARC1; p=quarantine');
          expect(body).not.toContain('include:sendmux.ai');
        }
      }
      expect(await postfix.rcpt(`someone@${name}`)).toMatch(/^250 /);

      // The records are repaired, and the customer requests a verification.
      bind.update(...place.filter((line) => line.includes(' MX ') || line.includes('DMARC1')));
      expect((await api.verify(domain.id)).body).toMatchObject({ data: { status: 'verified' } });
      await new Promise((later) => setTimeout(later, 4_000));
      expect(await status()).toBe('verified');
      const later = (await system.sandbox.mails()).filter(({ id }) => !mails.some((mail) => mail.id === id));
      expect(later.flatMap(({ to }) => to).sort()).toEqual(owners);
      expect(new Set(later.map(({ subject }) => subject))).toEqual(new Set([`${name} is verified again`]));

      await api.call('DELETE', `/mailboxes/${(created.body as { data: { id: string } }).data.id}`);
      expect((await api.delete(domain.id)).body).toMatchObject({ data: { deleted: true, id: domain.id } });
      expect(await postfix.rcpt(`someone@${name}`)).toMatch(/^554 /);
      expect((await api.get(domain.id)).status).toBe(404);
    });

    it('has no MX while it only sends, is refused a mailbox, and takes mail after the upgrade and its MX', async () => {
      const news = 'news.acme.com';
      const rcpt = () => postfix.rcpt(`someone@${news}`);
      const createMailbox = () => api.call('POST', '/mailboxes', { address: `someone@${news}` });
      // Somebody else receives its mail now, and goes on to.
      bind.update(`add ${news} 60 MX 1 aspmx.l.google.com.`);
      const added = await api.call('POST', '/domains', { domain: news, mode: 'send_only' });
      expect(added).toMatchObject({ status: 201, body: { data: { mode: 'send_only', dns_records: { mx: [] } } } });
      const { id, dns_records: records } = (added.body as { data: Domain }).data;
      expect(await rcpt()).toMatch(/^554 /);
      bind.update(
        ...[records.spf, records.dmarc, records.verification].map(({ name, value }) => `add ${name} 60 TXT "${value}"`),
      );
      await system.sandbox.place(added.body);
      await system.until('it is verified', async () => {
        const { body } = (await api.verify(id)) as { body: { data: { status: string } } };
        return body.data.status === 'verified';
      });
      expect(await createMailbox()).toMatchObject({ status: 409 });
      expect(await rcpt()).toMatch(/^554 /);

      const upgraded = await api.call('PATCH', `/domains/${id}`, { mode: 'send_receive' });
      expect(upgraded).toMatchObject({
        status: 200,
        body: { data: { mode: 'send_receive', verification_status: 'pending' } },
      });
      expect((await api.verify(id)).body).toMatchObject({ data: { status: 'pending', checks: { mx: false } } });
      expect(await createMailbox()).toMatchObject({ status: 409 });
      bind.update(`delete ${news} MX`, `add ${news} 60 MX 10 mail.sendmux.ai.`);
      expect((await api.verify(id)).body).toMatchObject({ data: { status: 'verified', checks: { mx: true } } });
      expect(await createMailbox()).toMatchObject({ status: 201 });
      await system.until('Postfix takes its mail', async () => (await rcpt()).startsWith('250 '));
    });
  });
});
