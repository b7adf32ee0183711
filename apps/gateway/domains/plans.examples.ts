/** Examples of answers for the OpenAPI document, made by the code that makes the real answers. */
import {
  answerOf,
  Answers,
  dnsPlan,
  namesToRead,
  mailTaken,
  planWarnings,
  preflight,
  publishedIn,
  zoneFile,
  zoneFileFormats,
} from '@app/mail-records';
import { formats, presentPlan, presentPreflight } from './plans.dto';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
  sesRegion: 'eu-west-1',
};
const zone = 'acme.com';
const meta = { request_id: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx' };
const google = { preference: 1, exchange: 'aspmx.l.google.com' };
const answers = new Answers()
  .set('MX', domain.name, answerOf([google]))
  .set('TXT', domain.name, answerOf(['v=spf1 include:_spf.google.com ~all']))
  .set('TXT', `_dmarc.${zone}`, answerOf(['v=DMARC1; p=none']));
const published = publishedIn(namesToRead(domain), answers);

const operations = dnsPlan(domain, published);
const warnings = [...mailTaken(domain, operations), ...planWarnings(domain, published, operations)];
export const planned = { ok: true, data: presentPlan(domain.name, zone, operations, warnings), meta };

export const preflighted = {
  ok: true,
  data: presentPreflight(domain.name, zone, preflight(domain, published, zone, false)),
  meta,
};

/** Zone files by media type and format. */
export const zoneFiles: Record<string, Record<string, string>> = {};
for (const format of formats) {
  const mediaType = zoneFileFormats[format].mediaType.split(';', 1)[0]!;
  zoneFiles[mediaType] = { ...zoneFiles[mediaType], [format]: zoneFile(format, domain, zone) };
}
