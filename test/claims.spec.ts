import { startSystem, type ApiClient, type Answer, type System } from './support/processes';

interface Domain {
  readonly id: string;
  readonly dns_records: { readonly dkim: readonly { readonly name: string }[] };
  readonly verification_status: string;
}
interface Claim {
  readonly id: string;
  readonly status: string;
  readonly record: { readonly name: string; readonly value: string };
  readonly reason?: { readonly code: string; readonly message: string };
  readonly domain_id?: string;
}
const dataOf = <Data>({ body }: Answer): Data => (body as { data: Data }).data;
const messageOf = ({ body }: Answer): string => (body as { error: { message: string } }).error.message;

let system: System;
beforeAll(async () => {
  system = await startSystem({
    together: ['gateway', 'provisioning', 'notifier'],
    env: { VERIFICATION_INTERVAL: '2s', CLAIM_GRACE: '4s' },
  });
});
afterAll(() => system?.end());

const claim = (api: ApiClient, domain: string, key?: string) =>
  api.call('POST', '/domains/claims', { domain }, key ? { 'idempotency-key': key } : {});
const verifyClaim = async (api: ApiClient, id: string) =>
  dataOf<Claim>(await api.call('POST', `/domains/claims/${id}/verify`));
const tagOf = async (name: string) =>
  (await system.sandbox.identities()).find((identity) => identity.name === name)?.tags.map(({ Value }) => Value);
const isMailed = (owner: string, subject: string) =>
  system.until(`${owner} is told that ${subject}`, async () =>
    (await system.sandbox.mails(owner)).some((mail) => mail.subject.includes(subject)),
  );
const typesOf = async (api: ApiClient, id: string) =>
  dataOf<{ type: string }[]>(await api.call('GET', `/domains/${id}/history?limit=100`)).map(({ type }) => type);

it('a name that was never verified goes to the team that proves it', async () => {
  const name = 'squatted.example.com';
  const { api: squatter } = await system.team({ owners: ['a@owners.example'] });
  const { api: owner, id: team } = await system.team({ owners: ['b@owners.example'] });
  const theirs = dataOf<Domain>(await squatter.add(name));
  const taken = await owner.add(name);
  expect([taken.status, messageOf(taken)]).toEqual([
    409,
    `${name} is in use and cannot be added. If it is yours, claim it with POST /domains/claims.`,
  ]);

  const opened = await claim(owner, name, 'once');
  expect(opened.status).toBe(201);
  expect(dataOf<Claim>(opened)).toMatchObject({
    status: 'pending',
    record: { type: 'TXT', name: `_sendmux.${name}`, value: `sendmux-verify=${team}` },
  });
  const { id, record } = dataOf<Claim>(opened);
  expect(dataOf<Claim>(await claim(owner, name, 'once')).id).toBe(id);
  expect(await verifyClaim(owner, id)).toMatchObject({ status: 'pending', reason: { code: 'txt_missing' } });
  expect((await squatter.get(theirs.id)).status).toBe(200);

  await system.sandbox.set(record.name, 'TXT', [record.value]);
  const won = await verifyClaim(owner, id);
  expect(won.status).toBe('succeeded');
  expect((await squatter.get(theirs.id)).status).toBe(404);
  const ours = await system.until('the winner is provisioned', async () => {
    const found = await owner.get(won.domain_id!);
    return found.status === 200 ? found : undefined;
  });
  expect(await tagOf(name)).toEqual([won.domain_id]);
  expect(dataOf<Domain>(ours).dns_records.dkim).not.toEqual(theirs.dns_records.dkim);
  await system.sandbox.place(ours.body);
  const verified = await owner.verify(won.domain_id!);
  expect(dataOf<{ status: string }>(verified).status).toBe('verified');

  await isMailed('a@owners.example', `${name} is another team’s now`);
  expect(await system.sandbox.mails('b@owners.example')).toEqual([]);
  expect(await typesOf(squatter, theirs.id)).toEqual(expect.arrayContaining(['DomainReleased', 'DomainDeleted']));
  expect((await typesOf(owner, won.domain_id!)).slice(0, 2)).toEqual(['DomainAdded', 'DomainProvisioned']);
  // The name has been proved: whoever had it before cannot take it back.
  const back = dataOf<Claim>(await claim(squatter, name));
  expect(await verifyClaim(squatter, back.id)).toMatchObject({ status: 'pending' });
  expect((await claim(owner, name)).status).toBe(409);
});

it('a verified name goes once its ownership record is gone for long enough, and its mailboxes are suspended', async () => {
  const name = 'sold.example.com';
  const { api: seller, id: sellers } = await system.team({ owners: ['seller@owners.example'] });
  const { api: buyer } = await system.team({ owners: ['buyer@owners.example'] });
  const added = await seller.add(name);
  const { id } = dataOf<Domain>(added);
  await system.sandbox.place(added.body);
  expect(dataOf<{ status: string }>(await seller.verify(id)).status).toBe('verified');
  const mailbox = dataOf<{ id: string }>(await seller.call('POST', '/mailboxes', { address: `ada@${name}` })).id;

  const { id: claimId, record } = dataOf<Claim>(await claim(buyer, name));
  await system.sandbox.set(record.name, 'TXT', [record.value, `sendmux-verify=${sellers}`]);
  expect(await verifyClaim(buyer, claimId)).toMatchObject({ status: 'refused', reason: { code: 'held_by_record' } });
  await system.sandbox.set(record.name, 'TXT', [record.value]);
  expect(await verifyClaim(buyer, claimId)).toMatchObject({ status: 'refused', reason: { code: 'held_in_grace' } });
  await system.until('the seller is told of it', async () =>
    (await system.sandbox.mails('seller@owners.example')).some(({ text }) =>
      text.includes(`another team may claim ${name}`),
    ),
  );
  const won = await system.until('the time of grace is over', async () => {
    const now = await verifyClaim(buyer, claimId);
    return now.status === 'succeeded' ? now : undefined;
  });
  await system.until('the winner is provisioned', async () => (await buyer.get(won.domain_id!)).status === 200);
  expect(await tagOf(name)).toEqual([won.domain_id]);
  await isMailed('seller@owners.example', `${name} is another team’s now`);
  expect(dataOf<{ status: string }>(await seller.call('GET', `/mailboxes/${mailbox}`)).status).toBe('suspended');
  expect((await seller.call('POST', `/mailboxes/${mailbox}/resume`)).status).toBe(409);
  expect((await buyer.call('GET', `/mailboxes/${mailbox}`)).status).toBe(404);
});

it('a domain that was never verified expires after its owners were told, and its name is free', async () => {
  const name = 'forgotten.example.com';
  const { api } = await system.team({ owners: ['forgetful@owners.example'] });
  const { api: other } = await system.team();
  const { id } = dataOf<Domain>(await api.add(name));
  await system.stop('verification-scheduler');
  await system.start('verification-scheduler', { UNVERIFIED_DOMAIN_EXPIRY: '2s' });
  await isMailed('forgetful@owners.example', `${name} expires on`);
  await system.until('it is gone', async () => (await api.get(id)).status === 404);
  await system.until('its name is free', async () => (await other.add(name)).status === 201);
});
