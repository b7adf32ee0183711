import type { CheckName } from './findings';
import { dmarcValue, dnsRecords, mailHost, mailHostPreference, spfIncludes, spfValue } from './records';
import type { Expected } from './verdicts';
import { possibleZones } from './zone';

/** What the product guide says to look at when a check fails ("Troubleshooting"), with the names of the domain in it. */
export function troubleshooting(check: CheckName, domain: Expected): readonly string[] {
  const { name } = domain;
  const { verification, dmarc, dkim } = dnsRecords(domain);
  const parent = possibleZones(name)[1];
  switch (check) {
    case 'verification_txt':
      return [
        `Confirm the record name is exactly ${verification.name}: some DNS providers append the zone by themselves, producing ${verification.name}.${name}${parent ? ` or ${verification.name}.${parent}` : ''}.`,
        `Confirm the value is ${verification.value}, including the sendmux-verify= prefix and your team’s public ID.`,
        'Wait 2–5 minutes and retry: TXT records typically propagate fast, but some resolvers lag.',
      ];
    case 'mx':
      return [
        `Check that the MX target is ${mailHost} (with or without a trailing dot).`,
        `Check the priority is ${mailHostPreference}.`,
        `Make sure the MX is on ${name}${parent ? `, not ${parent}` : ', the domain that you registered with Sendmux'}.`,
        'MX records cannot be proxied: where your DNS provider can proxy records, set it to “DNS only”.',
      ];
    case 'spf':
      return [
        'Only one SPF record per hostname is allowed: merge all include: mechanisms into one record.',
        `If ${name} already has v=spf1 include:_spf.google.com ~all, say, add the Sendmux includes to the same record: ${spfValue.replace('~all', 'include:_spf.google.com ~all')}.`,
        `Check for typos, such as in include:${spfIncludes.join(' and include:')}: SPF is whitespace-sensitive.`,
      ];
    case 'dmarc':
      return [
        `The record name is ${dmarc.name} and the type is TXT.`,
        `${dmarcValue} is the Sendmux minimum. You can add tags (rua=, pct=, adkim=), but do not remove p=quarantine.`,
      ];
    case 'dkim':
      return [
        `Confirm all three CNAMEs are in place, each with its own target: ${dkim.map((record) => `${record.name} to ${record.value}`).join(', ')}.`,
        'DKIM records must be set to “DNS only” (not proxied), same as MX.',
        'Amazon SES retries automatically: temporary_failure usually resolves within an hour once the records are correct.',
        'If failed persists for more than 72 hours with the records in place, contact support at contact@sendmux.ai.',
      ];
  }
}
