export { DohClient, type DohOptions } from './doh-client';
export { encodeQuery } from './dns-message';
export type { DnsAnswer, DnsEvidence, MxRecord, SoaRecord } from './dns-message';
