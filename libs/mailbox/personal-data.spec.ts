import type { MailboxEvent } from './personal-data';
import { decrypted, hasPersonalData, isEncrypted, isUnencrypted, storedData } from './personal-data';
import { mailboxEvent } from './recorded';

const [stream, time] = ['mbx_1', '2026-11-30T06:00:00.000Z'];
const seal = (personal: string) => Buffer.from(personal).toString('base64');
const open = (_id: string, sealed: string) => Buffer.from(sealed, 'base64').toString();
const event = (type: MailboxEvent['type'], data: object) =>
  ({ type, mailboxId: stream, at: time, data }) as MailboxEvent;

const created = event('MailboxCreated', { address: 'ada@mail.acme.com', team: 'team_a', domainId: 'mdom_1' });
const named = event('DisplayNameChanged', { displayName: 'Ada Lovelace' });
const unnamed = event('DisplayNameChanged', { displayName: null });
const suspended = event('MailboxSuspended', {});

describe('personal data of an event', () => {
  it.each([
    [created, ['domainId', 'sealed', 'team']],
    [named, ['sealed']],
    [unnamed, ['sealed']],
  ])('are stored encrypted, and read as they were decided', (decided, fields) => {
    expect(hasPersonalData(decided)).toBe(true);
    const data = storedData(decided, seal);
    expect(Object.keys(data).sort()).toEqual(fields);
    expect(JSON.stringify(data)).not.toMatch(/ada@|Lovelace/i);
    const recorded = { stream, time, type: decided.type, schemaVersion: 2, data };
    expect([isEncrypted(recorded), isUnencrypted(recorded)]).toEqual([true, false]);
    expect(mailboxEvent(recorded, open)).toEqual(decided);
  });

  it('are null once they are erased, and nothing else is', () => {
    const recorded = { stream, time, type: 'MailboxCreated', schemaVersion: 2, data: storedData(created, seal) };
    const { data } = mailboxEvent(recorded, () => undefined);
    expect(data).toEqual({ address: null, team: 'team_a', domainId: 'mdom_1' });
  });

  it('are read without a key where an earlier release has recorded them', () => {
    const noKey = () => {
      throw new Error('a key was asked for');
    };
    for (const { type, data } of [created, named, unnamed]) {
      const recorded = { stream, time, type, schemaVersion: 1, data };
      expect([isEncrypted(recorded), isUnencrypted(recorded)]).toEqual([false, true]);
      expect(mailboxEvent(recorded, noKey).data).toEqual(data);
    }
  });

  it('are in no other event', () => {
    expect(hasPersonalData(suspended)).toBe(false);
    expect(storedData(suspended, seal)).toBe(suspended.data);
    expect(decrypted(suspended as Parameters<typeof decrypted>[0], open)).toBe(suspended);
    const recorded = { type: 'MailboxSuspended', schemaVersion: 1 };
    expect([isEncrypted(recorded), isUnencrypted(recorded)]).toEqual([false, false]);
  });
});
