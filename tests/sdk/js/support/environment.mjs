// What ./dev test hands to the tests. A test that lacks it fails and says which command gives it.
function needed(name) {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: run the SDK tests with ./dev test js`);
  return value;
}

export const kafkaBootstrap = () => needed("CORESPAN_TEST_KAFKA");
export const devScript = () => needed("CORESPAN_TEST_KAFKA_DEV");
export const corespanBinary = () => needed("CORESPAN_TEST_BIN");
