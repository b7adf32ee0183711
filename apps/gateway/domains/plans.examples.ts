/** Answers for the OpenAPI document, made by what makes the real ones. */
import { dnsPlan, preflight, zoneFile, zoneFileFormats, type Published } from '@app/mail-domain';
import { formats, presentPlan, presentPreflight } from './plans.dto';

const domain = {
  name: 'mail.acme.com',
  team: 'team_abc123',
  dkimTokens: ['token1', 'token2', 'token3'],
  dkimZone: 'dkim.amazonses.com',
};
const zone = 'acme.com';
const meta = { request_id: 'req_clxxxxxxxxxxxxxxxxxxxxxxxxx' };
const absent = { exists: false, cname: null, txt: [], mx: [] };
const published: Published = {
  domain: {
    exists: true,
    cname: null,
    txt: ['v=spf1 include:_spf.google.com ~all'],
    mx: [{ preference: 1, exchange: 'aspmx.l.google.com' }],
  },
  verification: absent,
  dmarc: absent,
  dkim: domain.dkimTokens.map((token) => ({ token, ...absent })),
  inheritedDmarc: ['v=DMARC1; p=none'],
  wildcards: { beside: absent, below: absent },
};

export const planned = { ok: true, data: presentPlan(domain.name, zone, dnsPlan(domain, published)), meta };

export const preflighted = {
  ok: true,
  data: presentPreflight(domain.name, zone, preflight(domain.name, published, zone, false)),
  meta,
};

/** By media type and format. */
export const zoneFiles: Record<string, Record<string, string>> = {};
for (const format of formats) {
  const mediaType = zoneFileFormats[format].mediaType.split(';', 1)[0]!;
  zoneFiles[mediaType] = { ...zoneFiles[mediaType], [format]: zoneFile(format, domain, zone) };
}
