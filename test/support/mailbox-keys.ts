import { MailboxKeys, mailboxKeyRing } from '@app/mailbox-keys';
import { encrypt, decrypt } from '@app/secret-keys';
import type { PersonalDataKeys } from '@app/commands';
import type { Pool } from 'pg';

const key = Buffer.alloc(32, 9);

/** The ring under which the keys of the mailboxes of tests are stored. */
export const personalDataRing = new Map([['test', key]]);
export const mailboxKeyRingOfTests = mailboxKeyRing(personalDataRing);

/** The same as the setting `PERSONAL_DATA_KEYS`. */
export const personalDataKeys = `test=${key.toString('base64')}`;

export const mailboxKeysIn = (pool: Pool): MailboxKeys => new MailboxKeys(pool, mailboxKeyRingOfTests);

/** One key for all mailboxes, for tests without a database, and for the golden events. */
export const oneKey: PersonalDataKeys = {
  openerOf: () => Promise.resolve((id, sealed) => decrypt(key, id, Buffer.from(sealed, 'base64')).toString('utf8')),
  sealerFor: (id) => Promise.resolve((text) => encrypt(key, id, Buffer.from(text)).toString('base64')),
};
