export * from './canary';
export * from './explainer';
export * from './published-records';
export * from './verification.module';
export * from './verifier';
