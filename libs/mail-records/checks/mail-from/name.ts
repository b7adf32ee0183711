import { operation, type Operation } from '../../operation';
import { fail, type Conclusion } from '../finding';

/** The MAIL FROM domain, which SES puts into the envelope of what it sends, and to which bounces go. */
export const mailFromName = (domain: string): string => `bounce.${domain}`;

/** Says what is missing without the records. */
export const notAligned =
  'Until then, Amazon SES sends with a MAIL FROM domain of its own, and SPF does not align for DMARC.';

export const cnameAtMailFrom = (name: string, target: string): Conclusion =>
  fail(
    'cname_at_name',
    `${name} is a CNAME to ${target}. A name with a CNAME can have no MX or TXT record (RFC 1034 section 3.6.2): remove the CNAME. ${notAligned}`,
  );

/** Removes the CNAME of the MAIL FROM domain. */
export const mailFromCnameGone = (name: string, cname: string): Operation =>
  operation(
    'delete',
    { name, type: 'CNAME' },
    [cname],
    `A name with a CNAME can have no MX or TXT record. Where another service sends with ${name}, it can no longer do so: leave the CNAME then, and Amazon SES goes on with a MAIL FROM domain of its own.`,
  );
