export type { DkimAnswer, DnsAnswers, Expected } from './expected';
export { judge } from './judge';
export { spfQuestion } from './judge-spf';
export type { Answer, Evidence, MxRr, TxtRr } from './quorum';
export type { SpfWalk } from './spf-walk';
