import { startSystem, type Answer, type ApiClient, type System } from './support/processes';

interface Domain {
  readonly id: string;
  readonly verification_status: string;
  readonly last_checked_at: string;
  readonly ses_dkim_status: string;
  readonly ses_mail_from_status: string | null;
  readonly dns_records: { readonly mail_from: { mx: { name: string }; spf: { name: string } } };
}
interface Verification {
  readonly status: string;
  readonly ses_dkim_status: string;
  readonly ses_mail_from_status: string;
  readonly checks: Readonly<Record<string, boolean>>;
}

describe('where the operator requires MAIL FROM', () => {
  let system: System;
  let api: ApiClient;

  const dataOf = <Data>({ body }: Answer) => (body as { data: Data }).data;
  const read = async (id: string) => dataOf<Domain>(await api.get(id));
  const verify = async (id: string) => dataOf<Verification>(await api.verify(id));
  /** Adds a domain, and places all records of it except those of its MAIL FROM domain. */
  const addWithoutMailFrom = async (name: string): Promise<{ answer: Answer; id: string }> => {
    const answer = await api.add(name);
    const { id, dns_records: records } = dataOf<Domain>(answer);
    await system.sandbox.place(answer.body);
    await system.sandbox.set(records.mail_from.mx.name, 'MX', []);
    await system.sandbox.set(records.mail_from.spf.name, 'TXT', []);
    return { answer, id };
  };

  beforeAll(async () => {
    system = await startSystem({
      apps: ['sandbox', 'gateway', 'provisioning', 'verification-scheduler'],
      together: 'all',
      env: { MAIL_FROM_REQUIRED: 'true', VERIFICATION_INTERVAL: '2s' },
    });
    ({ api } = await system.team());
  });
  afterAll(() => system.end());

  it('a domain is verified by its MAIL FROM records, whether it is looked at on request or by the cycle', async () => {
    const { answer, id } = await addWithoutMailFrom('required.acme.com');
    const found = await system.until('SES has found the DKIM records', async () => {
      const verification = await verify(id);
      return verification.ses_dkim_status === 'success' ? verification : undefined;
    });
    const inPlace = { mx: true, verification_txt: true, spf: true, dmarc: true };
    expect(found).toMatchObject({
      status: 'pending',
      ses_mail_from_status: 'pending',
      checks: { ...inPlace, mail_from_mx: false, mail_from_spf: false },
    });
    // The cycle finds the same, twice at least.
    let { last_checked_at: last } = await read(id);
    for (let looks = 0; looks < 2; looks++)
      last = await system.until('the cycle has looked', async () => {
        const { last_checked_at: at } = await read(id);
        return at === last ? undefined : at;
      });
    expect(await read(id)).toMatchObject({ verification_status: 'pending', ses_dkim_status: 'success' });

    await system.sandbox.place(answer.body);
    await system.until('it is verified', async () => (await read(id)).verification_status === 'verified');
    const { status, checks } = await system.until('SES has found the MX record', async () => {
      const verification = await verify(id);
      return verification.ses_mail_from_status === 'success' ? verification : undefined;
    });
    expect({ status, checks }).toEqual({
      status: 'verified',
      checks: { ...inPlace, mail_from_mx: true, mail_from_spf: true },
    });
    expect(await read(id)).toMatchObject({ verification_status: 'verified', ses_mail_from_status: 'success' });
  });
});
