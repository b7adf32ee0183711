import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadSettings } from '@app/runtime';
import { whoHas } from './support/both-or-neither';
import { startSystem, type Answer, type ApiClient, type System } from './support/processes';

/** Reads the product guide from beginning to end, so that the tests cover each of its sentences. */
class Guide {
  private rest = flat(readFileSync(join(__dirname, 'guide/custom-domains.txt'), 'utf8'));

  /** Expects these sentences to be the next of the guide. It fails when a test skips or invents one. */
  says(...sentences: string[]): void {
    for (const sentence of sentences) {
      const words = flat(sentence);
      expect(this.rest.slice(0, words.length)).toBe(words);
      this.rest = this.rest.slice(words.length).trimStart();
    }
  }

  isRead(): boolean {
    return this.rest === '';
  }
}
const flat = (text: string) => text.replace(/\s+/g, ' ').trim();

interface Added {
  data: {
    id: string;
    domain: string;
    dns_records: {
      mx: { priority: number; target: string }[];
      dkim: { name: string; value: string }[];
    } & Record<'spf' | 'dmarc' | 'verification', { name: string; value: string }>;
  };
}
interface Detail {
  check: string;
  message: string;
  hint: string | null;
}

it('the guide is true, sentence by sentence', async () => {
  const guide = new Guide();
  const system: System = await startSystem({
    together: 'all',
    env: { VERIFICATION_INTERVAL: '4s', OUTBOUND_PROVIDERS: 'mailgun=127.0.0.1:9', RATE_LIMIT_PER_MINUTE: '100000' },
  });
  try {
    await read((...sentences) => guide.says(...sentences), system);
    expect(guide.isRead()).toBe(true);
  } finally {
    await system.end();
  }
});

async function read(says: (...sentences: string[]) => void, system: System): Promise<void> {
  const owners = ['ada@owners.example', 'grace@owners.example'];
  const { api, id: team, key } = await system.team({ owners });
  const { api: others } = await system.team();

  const addedBy = (answer: Answer) => answer.body as Added;
  const add = async (name: string, by = api): Promise<Added> => {
    const answer = await by.add(name);
    expect(answer.status).toBe(201);
    return addedBy(answer);
  };
  const read = async (id: string) => ((await api.get(id)).body as Added).data as unknown as Record<string, unknown>;
  const statusOf = async (id: string) => (await read(id)).verification_status;
  const becomes = (id: string, status: string) =>
    system.until(`${id} is ${status}`, async () => (await statusOf(id)) === status);
  const verified = async (name: string, by = api): Promise<Added> => {
    const added = await add(name, by);
    await system.sandbox.place(added);
    await system.until(`${name} is verified`, async () => {
      const { body } = (await by.verify(added.data.id)) as { body: { data: { status: string } } };
      return body.data.status === 'verified';
    });
    return added;
  };
  const mailbox = (address: string, by: ApiClient = api, more: object = {}) =>
    by.call('POST', '/mailboxes', { address, ...more });
  const idOf = ({ body }: Answer) => (body as { data: { id: string } }).data.id;
  const checksOf = async (id: string) =>
    (await api.verify(id)).body as { data: { status: string; checks: Record<string, boolean>; details: Detail[] } };
  /** Runs a command of the guide, with the real host, key and id. */
  const curl = (command: string, id = '') => {
    const { stdout } = spawnSync(
      'bash',
      [
        '-c',
        command
          .replace('curl', 'curl -s')
          .replace('https://app.sendmux.ai', `http://127.0.0.1:${system.port}`)
          .replace('smx_root_your_key_here', key)
          .replace('mdom_clxxx', id),
      ],
      { encoding: 'utf8' },
    );
    return JSON.parse(stdout) as Added & Record<string, unknown>;
  };
  /** Replaces ids, tokens and times of an answer by those of the guide's example. */
  const asInGuide = (answer: Added): unknown => {
    const tokens = answer.data.dns_records?.dkim.map(({ name }) => name.split('.', 1)[0]!) ?? [];
    const text = tokens.reduce(
      (text, token, i) => text.replaceAll(token, `token${i + 1}`),
      JSON.stringify(answer)
        .replace(/(mdom|req)_cl[0-9a-z]{25}/g, '$1_clxxxxxxxxxxxxxxxxxxxxxxxxx')
        .replaceAll(team, 'team_abc123')
        .replace(/"created_at":"[^"]+"/, '"created_at":"2026-04-15T10:00:00Z"'),
    );
    return JSON.parse(text);
  };
  const failureMails = async () =>
    (await system.sandbox.mails()).filter(({ subject }) => subject.includes('no longer verified'));

  says('Skip to main content');
  says('Every custom mailbox lives on a domain you own.');
  expect(await mailbox('ada@acme.com')).toMatchObject({ status: 409, body: { error: { param: 'address' } } });
  says(
    'Before you can create a mailbox on acme.com, the domain must be added to your team, the DNS records must be in place, and Sendmux must confirm the records over DNS.',
  );
  const acme = await add('acme.com');
  expect((await mailbox('ada@acme.com')).status).toBe(409);
  expect((await checksOf(acme.data.id)).data.status).toBe('pending');
  expect((await mailbox('ada@acme.com')).status).toBe(409);
  await system.sandbox.place(acme);
  await becomes(acme.data.id, 'verified');
  const onAcme = await mailbox('ada@acme.com');
  expect(onAcme.status).toBe(201);
  says(
    'This guide walks through the full lifecycle: add a domain, read back the records, verify them, and clean up when a domain is no longer needed.',
  );
  expect((await read(acme.data.id)).dns_records).toEqual(acme.data.dns_records);
  await api.call('DELETE', `/mailboxes/${idOf(onAcme)}`);
  expect((await api.delete(acme.data.id)).status).toBe(200);

  says('Custom domains vs @myagent.mx');
  const suffix = team.replace('team_', '-');
  const brand = await verified('brand.acme.com');
  says('Sendmux offers two ways to give a mailbox an email address.', '@myagent.mxCustom domain (e.g. mail.acme.com)');
  says('DNS changes requiredNone — Sendmux owns the domain');
  const shared = await mailbox(`ada${suffix}@myagent.mx`);
  says('Yes — you must place MX/SPF/DMARC/DKIM/verification records');
  expect(Object.keys(brand.data.dns_records).sort()).toEqual(
    expect.arrayContaining(['dkim', 'dmarc', 'mx', 'spf', 'verification']),
  );
  says('Provisioning timeInstant');
  expect(shared).toMatchObject({ status: 201, body: { data: { status: 'active', domain_id: null } } });
  says('Minutes to hours (DNS propagation)');
  const waiting = await add('waiting.acme.com');
  expect(await statusOf(waiting.data.id)).toBe('pending');
  const choose = (path: string, provider: string) =>
    api.call('PUT', `${path}/outbound-provider`, { outbound_provider: provider });
  says('Can switch outbound providerNo — locked to Sendmux SES');
  expect(await choose(`/mailboxes/${idOf(shared)}`, 'mailgun')).toMatchObject({ status: 409 });
  says('Yes — override per domain or per mailbox');
  const branded = await mailbox('sales@brand.acme.com');
  expect((await choose(`/domains/${brand.data.id}`, 'mailgun')).status).toBe(200);
  const effective = async () =>
    ((await api.call('GET', `/mailboxes/${idOf(branded)}`)).body as { data: Record<string, unknown> }).data
      .effective_outbound_provider;
  expect(await effective()).toBe('mailgun');
  expect((await choose(`/mailboxes/${idOf(branded)}`, 'sendmux-ses')).status).toBe(200);
  expect(await effective()).toBe('sendmux-ses');
  says('Addresses under the domainOne per team, suffix-scoped');
  expect((await mailbox(`eve${suffix}@myagent.mx`)).status).toBe(409);
  expect((await mailbox('ada@myagent.mx', others)).status).toBe(422);
  says('Any address on your domain');
  for (const localPart of ['a', 'first.last', 'o’hara', "o'hara", '用户', 'x+y'])
    expect((await mailbox(`${localPart}@brand.acme.com`)).status).toBe(201);
  says('Best forQuick starts, single agents', 'Production, branded sending, per-team isolation');
  expect((await others.get(brand.data.id)).status).toBe(404);
  expect((await others.call('GET', `/mailboxes/${idOf(branded)}`)).status).toBe(404);
  expect((await mailbox('eve@brand.acme.com', others)).status).toBe(409);
  expect((await others.add('brand.acme.com')).status).toBe(409);
  says(
    'The rest of this guide covers custom domains. The shared @myagent.mx path is handled automatically when you create a mailbox with that suffix and does not require any of the steps below.',
  );
  expect((await others.list()).body).toMatchObject({ data: [] });
  const { id: third, api: agents } = await system.team();
  expect((await mailbox(`agent${third.replace('team_', '-')}@myagent.mx`, agents)).status).toBe(201);

  says('Add and verify a domain', '1', 'Call POST /domains', 'Submit the fully qualified hostname.');
  expect(await api.add('mail')).toMatchObject({ status: 400, body: { error: { param: 'domain' } } });
  says(
    'Sendmux provisions the domain in the mail server and Amazon SES in a single atomic step — if any part fails, everything is rolled back, so you’ll never end up with a half-configured domain on retry.',
  );
  await system.sandbox.plantIdentity('half.acme.com');
  expect((await api.add('half.acme.com')).status).toBe(502);
  await system.until('it is rolled back', async () => (await whoHas(system, 'half.acme.com')).mailServer === null);
  await system.sandbox.loseIdentity('half.acme.com');
  const half = await system.until('the retry succeeds', async () => {
    const retried = await api.add('half.acme.com');
    return retried.status === 201 ? addedBy(retried) : undefined;
  });
  expect(await whoHas(system, 'half.acme.com')).toEqual({ mailServer: half.data.id, ses: half.data.id });
  const post = String.raw`curl https://app.sendmux.ai/api/v1/domains \
  -H "Authorization: Bearer smx_root_your_key_here" \
  -H "Content-Type: application/json" \
  -d '{ "domain": "mail.acme.com" }'`;
  says(post);
  const added = curl(post);
  says('The response includes every DNS record you need to place at your DNS provider.');
  const example = `{
  "ok": true,
  "data": {
    "id": "mdom_clxxxxxxxxxxxxxxxxxxxxxxxxx",
    "domain": "mail.acme.com",
    "verification_status": "pending",
    "ses_dkim_status": "pending",
    "verified_at": null,
    "created_at": "2026-04-15T10:00:00Z",
    "dns_records": {
      "mx": [{ "priority": 10, "target": "mail.sendmux.ai" }],
      "spf": {
        "name": "mail.acme.com",
        "value": "v=spf1 include:amazonses.com include:sendmux.ai ~all"
      },
      "dmarc": {
        "name": "_dmarc.mail.acme.com",
        "value": "v=DMARC1; p=quarantine"
      },
      "dkim": [
        { "name": "token1._domainkey.mail.acme.com", "value": "token1.dkim.amazonses.com" },
        { "name": "token2._domainkey.mail.acme.com", "value": "token2.dkim.amazonses.com" },
        { "name": "token3._domainkey.mail.acme.com", "value": "token3.dkim.amazonses.com" }
      ],
      "verification": {
        "name": "_sendmux.mail.acme.com",
        "value": "sendmux-verify=team_abc123"
      }
    }
  },
  "meta": { "request_id": "req_clxxxxxxxxxxxxxxxxxxxxxxxxx" }
}`;
  says(example);
  expect(asInGuide(added)).toMatchObject(JSON.parse(example) as object);
  const { id, dns_records: records } = added.data;

  says('2', 'Place every DNS record at your DNS provider');
  says('See Required DNS records below for what each record does.');
  says('Place them exactly as returned — Sendmux’s verification check looks for byte-exact values.');
  await system.sandbox.place(added);
  await system.sandbox.set(records.verification.name, 'TXT', [records.verification.value.slice(0, -1)]);
  expect((await checksOf(id)).data.checks).toMatchObject({ verification_txt: false });
  await system.sandbox.set(records.verification.name, 'TXT', [records.verification.value]);

  says('3', 'Trigger verification', 'Once the records are in place, ask Sendmux to verify them.');
  const verify = String.raw`curl -X POST https://app.sendmux.ai/api/v1/domains/mdom_clxxx/verify \
  -H "Authorization: Bearer smx_root_your_key_here"`;
  says(verify);
  const asked = async () =>
    (await system.sandbox.sesCalls()).filter(({ operation, name }) => /Get/.test(operation) && name === 'mail.acme.com')
      .length;
  const before = await asked();
  const verification = curl(verify, id) as unknown as Added;
  says(
    'Sendmux queries our DNS-over-HTTPS resolver for all four non-DKIM records and asks Amazon SES for the latest DKIM status.',
  );
  expect(await asked()).toBeGreaterThan(before);
  says(
    'If everything matches, verification_status flips to verified and the domain becomes available for mailbox creation.',
  );
  const answer = `{
  "ok": true,
  "data": {
    "status": "verified",
    "ses_dkim_status": "success",
    "checks": {
      "mx": true,
      "verification_txt": true,
      "spf": true,
      "dmarc": true
    }
  },
  "meta": { "request_id": "req_clxxxxxxxxxxxxxxxxxxxxxxxxx" }
}`;
  says(answer);
  expect(asInGuide(verification)).toMatchObject(JSON.parse(answer) as object);
  expect(await statusOf(id)).toBe('verified');
  const live = await mailbox('ada@mail.acme.com');
  expect(live.status).toBe(201);

  says('Required DNS records');
  says('Place every record from the dns_records object at your DNS provider exactly as returned.');
  says(
    'The table below explains what each record does — AU English, because the rest of Sendmux is too.',
    'RecordNameValuePurpose',
  );
  says('MXmail.acme.com10 mail.sendmux.aiRoutes inbound mail to Sendmux’s managed mail server.');
  expect(records.mx).toMatchObject([{ priority: 10, target: 'mail.sendmux.ai' }]);
  says('TXT_sendmux.mail.acme.comsendmux-verify=team_abc123Proves team ownership. Unique to your team — never shared.');
  expect(records.verification).toMatchObject({ name: '_sendmux.mail.acme.com', value: `sendmux-verify=${team}` });
  const foreign = await add('others.acme.com', others);
  expect(foreign.data.dns_records.verification.value).not.toBe(records.verification.value);
  says(
    'TXTmail.acme.comv=spf1 include:amazonses.com include:sendmux.ai ~allSPF. Authorises both SES and Sendmux’s relays.',
  );
  expect(records.spf).toMatchObject({
    name: 'mail.acme.com',
    value: 'v=spf1 include:amazonses.com include:sendmux.ai ~all',
  });
  says(
    'TXT_dmarc.mail.acme.comv=DMARC1; p=quarantineDMARC enforcement. Receivers quarantine any mail that fails SPF + DKIM alignment.',
  );
  expect(records.dmarc).toMatchObject({ name: '_dmarc.mail.acme.com', value: 'v=DMARC1; p=quarantine' });
  says(
    'CNAME{token}._domainkey.mail.acme.com (×3){token}.dkim.amazonses.comDKIM signing. Amazon SES rotates keys automatically — don’t replace the targets.',
  );
  expect(records.dkim).toHaveLength(3);
  for (const { name, value } of records.dkim)
    expect(name).toBe(`${value.replace('.dkim.amazonses.com', '')}._domainkey.mail.acme.com`);

  says('A few notes');
  says(
    '• DMARC reporting: the record we return has no rua= or ruf= tag because Sendmux does not run a DMARC aggregator.',
  );
  expect(records.dmarc.value).not.toMatch(/ru[af]=/);
  says('If you want reports, add your own rua= tag to the same record on top of the enforcement value.');
  await system.sandbox.set(records.dmarc.name, 'TXT', [`${records.dmarc.value}; rua=mailto:dmarc@acme.com`]);
  expect((await checksOf(id)).data.checks.dmarc).toBe(true);
  says(
    '• SPF merging: if the apex domain already has an SPF record, you must merge the include: mechanisms into a single record. Two SPF records on the same name are an authentication failure.',
  );
  const google = 'v=spf1 include:_spf.google.com ~all';
  const merged = 'v=spf1 include:amazonses.com include:sendmux.ai include:_spf.google.com ~all';
  await system.sandbox.set(half.data.dns_records.spf.name, 'TXT', [google, records.spf.value]);
  expect((await checksOf(half.data.id)).data.checks.spf).toBe(false);
  await system.sandbox.set(half.data.dns_records.spf.name, 'TXT', [merged]);
  expect((await checksOf(half.data.id)).data.checks.spf).toBe(true);
  says('• TTL: 300 seconds (5 min) works well during setup. You can raise it after verification.');
  const zoneFile = await fetch(`http://127.0.0.1:${system.port}/api/v1/domains/${id}/zone-file?format=bind`, {
    headers: { authorization: `Bearer ${key}` },
  });
  expect(await zoneFile.text()).toMatch(/\b300\b/);
  says(
    '• Subdomain only: you don’t have to give Sendmux your apex. Using a subdomain like mail.acme.com keeps your transactional SPF/DMARC separate from marketing traffic.',
  );
  for (const { name } of [records.spf, records.dmarc, records.verification, ...records.dkim])
    expect(name).toMatch(/(^|\.)mail\.acme\.com$/);

  says('Automatic re-verification', 'You don’t have to hit the verify endpoint yourself.');
  says('Every six hours Sendmux re-checks every pending and verified domain in the background:');
  expect(loadSettings({}, ['VERIFICATION_INTERVAL'])).toEqual({ VERIFICATION_INTERVAL: 6 * 3_600_000 });
  says('• Pending domains flip to verified as soon as DNS catches up.');
  await system.sandbox.place(waiting);
  await becomes(waiting.data.id, 'verified');
  says(
    '• Verified domains that stop resolving correctly — domain transfer, DNS provider outage, accidentally deleted record — flip back to pending,',
  );
  await system.sandbox.set('waiting.acme.com', 'MX', []);
  await becomes(waiting.data.id, 'pending');
  says(
    'and if the failure persists to the next cycle the status moves to failed and every team owner receives an email with the failing records.',
  );
  await becomes(waiting.data.id, 'failed');
  await system.until('every owner has mail', async () => (await failureMails()).length === owners.length);
  const mails = await failureMails();
  expect(mails.flatMap(({ to }) => to).sort()).toEqual(owners);
  for (const { text } of mails) expect(text).toContain('10 mail.sendmux.ai');
  says(
    'A single transient blip never triggers an email. The failure counter is reset on the first successful probe, so intermittent upstream flaps stay silent.',
  );
  await system.sandbox.clearMails();
  for (let blip = 0; blip < 2; blip++) {
    await system.sandbox.set('brand.acme.com', 'MX', []);
    await becomes(brand.data.id, 'pending');
    await system.sandbox.set('brand.acme.com', 'MX', ['10 mail.sendmux.ai']);
    await becomes(brand.data.id, 'verified');
  }
  expect(await failureMails()).toEqual([]);

  says('Why DKIM isn’t checked via DNS-over-HTTPS', 'DKIM propagation is owned by Amazon SES, not by you.');
  says(
    'SES watches for the three _domainkey CNAMEs and flips its internal DkimAttributes.Status from pending to success when it sees them — that’s the value Sendmux stores in ses_dkim_status and uses as the authoritative source.',
  );
  expect((await read(half.data.id)).ses_dkim_status).toBe('pending');
  for (const { name, value } of half.data.dns_records.dkim) await system.sandbox.set(name, 'CNAME', [value]);
  await checksOf(half.data.id);
  expect((await read(half.data.id)).ses_dkim_status).toBe('success');
  says(
    'Duplicating the check over DoH would race with SES and produce false negatives, so we only report the AWS-side state.',
  );
  const { checks: reported } = (await checksOf(half.data.id)).data;
  expect(reported).not.toHaveProperty('dkim');
  expect(Object.keys(reported)).toEqual(expect.arrayContaining(['dmarc', 'mx', 'spf', 'verification_txt']));

  says('Troubleshooting');
  const broken = await add('broken.acme.com');
  const at = (check: string, details: readonly Detail[]) => details.find((detail) => detail.check === check)!;
  const { details } = (await checksOf(broken.data.id)).data;
  const hints = (check: string, ...words: (string | RegExp)[]) => {
    const { message, hint } = at(check, details);
    for (const word of words) expect(`${message} ${hint}`).toMatch(word);
  };
  says('The ownership TXT record hasn’t propagated or its value doesn’t match.');
  hints('verification_txt', '_sendmux.broken.acme.com');
  says(
    '• Confirm the record name is exactly _sendmux.{your-domain} — some DNS providers auto-append the zone, producing _sendmux.{your-domain}.{your-domain}.',
  );
  hints('verification_txt', 'exactly _sendmux.broken.acme.com', '_sendmux.broken.acme.com.broken.acme.com');
  says(
    '• Confirm the value matches the one Sendmux returned, including the sendmux-verify= prefix and your team’s public ID suffix.',
  );
  hints('verification_txt', `Confirm the value is sendmux-verify=${team}`);
  says('• Wait 2–5 minutes and retry — TXT records typically propagate fast but some resolvers lag.');
  hints('verification_txt', 'Wait 2–5 minutes and retry');
  says('The MX record is missing or points somewhere else.');
  hints('mx', 'broken.acme.com');
  says('• Check that the MX target is mail.sendmux.ai (no trailing dot is fine — DoH normalises it).');
  hints('mx', /MX target is mail\.sendmux\.ai \(with or without a trailing dot\)/);
  says('• Check the priority is 10.');
  hints('mx', 'Check the priority is 10.');
  says(
    '• Make sure you’re placing the MX on the correct subdomain — mail.acme.com, not acme.com, if that’s the domain you registered with Sendmux.',
  );
  hints('mx', 'Make sure the MX is on broken.acme.com, not acme.com');
  says(
    '• If you use your DNS provider’s proxying feature, MX records cannot be proxied — they must be set to “DNS only”.',
  );
  hints('mx', /MX records cannot be proxied.*“DNS only”/);
  says('SPF failures are almost always caused by multiple SPF records on the same name.');
  says('• Only one SPF record per hostname is allowed. Merge all your include: mechanisms into one record.');
  hints('spf', /Only one SPF record per hostname is allowed: merge all include: mechanisms into one record/);
  says(`• If your apex already has ${google}, add the Sendmux includes to the same record: ${merged}.`);
  hints('spf', `add the Sendmux includes to the same record: ${merged}`);
  says('• Check for typos — SPF is whitespace-sensitive.');
  hints('spf', /Check for typos.*SPF is whitespace-sensitive/);
  says('DMARC record missing or its value doesn’t match.');
  says('• The record name is _dmarc.{your-domain} and the type is TXT.');
  hints('dmarc', 'The record name is _dmarc.broken.acme.com and the type is TXT.');
  says(
    '• The value v=DMARC1; p=quarantine is the Sendmux minimum. You can add tags (rua=, pct=, adkim=) but don’t remove p=quarantine.',
  );
  hints('dmarc', /v=DMARC1; p=quarantine is the Sendmux minimum.*\(rua=, pct=, adkim=\).*p=quarantine/);
  says('SES couldn’t verify the three DKIM CNAMEs.');
  says(
    '• Confirm all three CNAMEs are in place, each with the correct {token}._domainkey.{your-domain} name and {token}.dkim.amazonses.com target.',
  );
  hints('dkim', ...broken.data.dns_records.dkim.map(({ name, value }) => `${name} to ${value}`));
  says('• DKIM records placed at your DNS provider must be set to “DNS only” (not proxied), same as MX.');
  hints('dkim', 'must be set to “DNS only” (not proxied), same as MX');
  says('• SES retries automatically — temporary_failure usually resolves within an hour once the records are correct.');
  hints('dkim', /retries automatically: temporary_failure usually resolves within an hour/);
  says('• If failed persists for more than 72 hours with the records in place, contact support at contact@sendmux.ai.');
  hints('dkim', /more than 72 hours with the records in place, contact support at contact@sendmux\.ai/);

  const remove = String.raw`curl -X DELETE https://app.sendmux.ai/api/v1/domains/mdom_clxxx \
  -H "Authorization: Bearer smx_root_your_key_here"`;
  says('Delete a domain', remove);
  says(
    'Deletion is blocked if any active mailbox still lives on the domain — delete the mailboxes first, then the domain.',
  );
  expect(curl(remove, id)).toMatchObject({ ok: false, error: { code: 'conflict' } });
  expect(await statusOf(id)).toBe('verified');
  expect((await api.call('DELETE', `/mailboxes/${idOf(live)}`)).status).toBe(200);
  expect(curl(remove, id)).toMatchObject({ ok: true, data: { deleted: true, id } });
  says(
    'On success, Sendmux removes the domain from both the mail server and Amazon SES in addition to its own database.',
  );
  expect(await whoHas(system, 'mail.acme.com')).toEqual({ mailServer: null, ses: null });
  expect((await api.get(id)).status).toBe(404);
  says('The DNS records in your zone are your responsibility to clean up.');
  const again = await add('mail.acme.com');
  expect((await checksOf(again.data.id)).data.checks).toMatchObject({ mx: true, verification_txt: true });

  says('Permissions', 'Domain endpoints are gated by the following API-key permissions.');
  const withGrant = async (permissions: string[]) => {
    const child = spawnSync(
      join(__dirname, '../bin/sendmux'),
      ['key', 'create', '--team', team, '--permission', ...permissions, '--json'],
      { encoding: 'utf8', env: { ...process.env, ...system.settings } },
    );
    const { key: made } = JSON.parse(child.stdout) as { key: string };
    const may = async (method: string, path: string, body?: object) => {
      const { status } = await fetch(`http://127.0.0.1:${system.port}/api/v1${path}`, {
        method,
        headers: { authorization: `Bearer ${made}`, 'content-type': 'application/json' },
        ...(body && { body: JSON.stringify(body) }),
      });
      expect([200, 201, 403]).toContain(status);
      return status !== 403;
    };
    // The deletion comes last, since it removes the domain that the others use.
    const target = await add(`permissions${Math.random().toString(36).slice(2, 8)}.acme.com`);
    const path = `/domains/${target.data.id}`;
    return {
      'domain.create': await may('POST', '/domains', { domain: `made-${target.data.domain}` }),
      'domain.read': (await may('GET', '/domains')) && (await may('GET', path)),
      'domain.verify': await may('POST', `${path}/verify`),
      'domain.delete': await may('DELETE', path),
    };
  };
  const all = { 'domain.create': true, 'domain.read': true, 'domain.verify': true, 'domain.delete': true };
  const none = { 'domain.create': false, 'domain.read': false, 'domain.verify': false, 'domain.delete': false };
  says('Keys with the wildcard domain.* satisfy all of them, and the built-in root:full role includes domain.*.');
  expect(await withGrant(['domain.*'])).toEqual(all);
  says('EndpointRequired permission');
  says('POST /domainsdomain.create');
  expect(await withGrant(['domain.create'])).toEqual({ ...none, 'domain.create': true });
  says('GET /domainsdomain.read', 'GET /domains/{public_id}domain.read');
  expect(await withGrant(['domain.read'])).toEqual({ ...none, 'domain.read': true });
  says('POST /domains/{public_id}/verifydomain.verify');
  expect(await withGrant(['domain.verify'])).toEqual({ ...none, 'domain.verify': true });
  says('DELETE /domains/{public_id}domain.delete');
  expect(await withGrant(['domain.delete'])).toEqual({ ...none, 'domain.delete': true });
  says(
    'Keys provisioned with root:readonly carry domain.read so monitoring integrations can list your domains without being able to modify them.',
  );
  const { api: monitoring } = await system.team({ grant: { role: 'root:readonly' } });
  expect((await monitoring.list()).status).toBe(200);
  expect((await monitoring.add('new.acme.com')).status).toBe(403);
}
